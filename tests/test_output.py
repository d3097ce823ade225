"""The built folder: whole or not at all, and checked before use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwgen.arith import Rounding
from hwgen.config import PRESETS, HardwareConfig
from hwgen.errors import MismatchError, ModelError, OutputError
from hwgen.output import (
    MANIFEST,
    Manifest,
    check_file_place,
    check_files,
    check_replaceable,
    model_sha256,
    read_manifest,
    sha256,
    write_file,
    write_folder,
)

HARDWARE = HardwareConfig(name='od"d */ name', out_lanes=8, in_lanes=4, rounding=Rounding.HALF_UP, multiplier_bits=12)


def built(folder: Path, **files: bytes) -> Manifest:
    content = {name.replace("_", "/"): data for name, data in files.items()}
    manifest = Manifest(network="net", model_sha256="0" * 64, hardware=HARDWARE, files={name: sha256(data) for name, data in content.items()})
    write_folder(folder, {**content, MANIFEST: manifest.to_json().encode()})
    return manifest


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = built(tmp_path / "out", a_b=b"1", c=b"2")
    assert read_manifest(tmp_path / "out") == manifest
    check_files(tmp_path / "out", manifest)


def test_a_manifest_holds_no_path_and_no_date(tmp_path: Path) -> None:
    built(tmp_path / "one", a=b"1")
    built(tmp_path / "two", a=b"1")
    assert (tmp_path / "one" / MANIFEST).read_bytes() == (tmp_path / "two" / MANIFEST).read_bytes()


def test_changed_missing_and_escaping_files_are_named(tmp_path: Path) -> None:
    manifest = built(tmp_path / "out", a=b"1", b=b"2", c=b"3")
    (tmp_path / "out/a").write_bytes(b"x")
    (tmp_path / "out/b").unlink()
    with pytest.raises(MismatchError, match=r"^folder 'out': files must be as built, missing or changed: a, b; build again$"):
        check_files(tmp_path / "out", manifest)
    (tmp_path / "secret").write_bytes(b"s")
    outside = Manifest(network="n", model_sha256="", hardware=HARDWARE, files={"../secret": sha256(b"s")})
    with pytest.raises(MismatchError, match=r"missing or changed: \.\./secret"):
        check_files(tmp_path / "out", outside)


def test_files_that_are_links_out_or_to_themselves_are_no_files_of_the_build(tmp_path: Path) -> None:
    manifest = built(tmp_path / "out", a=b"1", b=b"2")
    (tmp_path / "secret").write_bytes(b"1")
    for name, target in (("a", tmp_path / "secret"), ("b", tmp_path / "out/b")):
        (tmp_path / "out" / name).unlink()
        (tmp_path / "out" / name).symlink_to(target)
    with pytest.raises(MismatchError, match=r"^folder 'out': files must be as built, missing or changed: a, b; build again$"):
        check_files(tmp_path / "out", manifest)


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"tool": {"name": "other"}}', '{"tool": {"name": "hwgen"}, "hardware": {}}'])
def test_a_damaged_manifest_is_an_output_error(tmp_path: Path, damage: str) -> None:
    (tmp_path / MANIFEST).write_text(damage)
    with pytest.raises(OutputError, match=rf"^folder '{tmp_path.name}': manifest.json is damaged \(\w+\); build again$"):
        read_manifest(tmp_path)


def test_illegal_hardware_in_a_manifest_is_damage(tmp_path: Path) -> None:
    built(tmp_path / "out")
    content = json.loads((tmp_path / "out" / MANIFEST).read_text())
    content["hardware"]["out_lanes"] = 3
    (tmp_path / "out" / MANIFEST).write_text(json.dumps(content))
    with pytest.raises(OutputError, match=r"manifest.json is damaged \(ConfigError\)"):
        read_manifest(tmp_path / "out")


def test_a_folder_without_manifest_was_not_built(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"must be made by `hwgen build`, manifest.json cannot be read \(No such file or directory\)$"):
        read_manifest(tmp_path)


def test_only_own_folders_are_replaced_without_force(tmp_path: Path) -> None:
    out = tmp_path / "out"
    check_replaceable(out, force=False)
    out.mkdir()
    check_replaceable(out, force=False)
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match=r"exists and was not made by hwgen; name another folder with -o, or replace it with --force$"):
        check_replaceable(out, force=False)
    check_replaceable(out, force=True)
    built(tmp_path / "mine", a=b"1")
    check_replaceable(tmp_path / "mine", force=False)


def test_a_file_or_a_link_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link"):
        with pytest.raises(OutputError, match=rf"{name}': must be a folder, is a file or a link; name another with -o$"):
            check_replaceable(tmp_path / name, force=True)


def test_an_unwritable_place_is_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written, .* is not a writable folder; name another with -o$"):
        check_replaceable(tmp_path / "file" / "out", force=False)


def test_a_name_that_no_file_system_takes(tmp_path: Path) -> None:
    long = tmp_path / ("a" * 300)
    with pytest.raises(OutputError, match=r"aaa': cannot be written \(File name too long\); name another with -o$"):
        check_replaceable(long, force=False)
    with pytest.raises(OutputError, match=r"aaa': cannot be written \(File name too long\); name another with -o$"):
        check_file_place(long)


def test_a_folder_is_no_place_for_a_file(tmp_path: Path) -> None:
    check_file_place(tmp_path / "q.onnx")
    with pytest.raises(OutputError, match=rf"^output '{tmp_path}': must be a file, is a folder; name an .onnx file with -o$"):
        check_file_place(tmp_path)


def test_replacing_leaves_nothing_of_the_old_folder_and_nothing_beside_it(tmp_path: Path) -> None:
    built(tmp_path / "out", old=b"1")
    built(tmp_path / "out", new=b"2")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [MANIFEST, "new"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path) -> None:
    built(tmp_path / "out", old=b"1")
    with pytest.raises(OutputError, match=r"cannot be written \("):
        write_folder(tmp_path / "out", {"a": b"1", "a/b": b"2"})
    assert (tmp_path / "out/old").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_that_cannot_take_its_place_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built(tmp_path / "out", old=b"1")
    move = Path.replace

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(28, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "replace", fails_for_the_new_one)
    with pytest.raises(OutputError, match=r"out': cannot be written \(No space left on device\); name another with -o$"):
        write_folder(tmp_path / "out", {"new": b"2"})
    assert (tmp_path / "out/old").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_file_is_not_written_through_a_link_that_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"mine")
    for name in ("report.json", ".report.json.part"):
        (tmp_path / name).symlink_to(tmp_path / "victim")
    write_file(tmp_path / "report.json", b"new")
    assert (tmp_path / "victim").read_bytes() == b"mine"
    assert (tmp_path / "report.json").read_bytes() == b"new"


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    write_file(tmp_path / "sub/q.onnx", b"12")
    assert (tmp_path / "sub/q.onnx").read_bytes() == b"12"
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputError, match=r"taken': cannot be written \(Is a directory\); name another with -o$"):
        write_file(tmp_path / "taken", b"1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sub", "taken"]


def test_a_model_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^model 'absent.onnx': cannot be read \(No such file or directory\); name an .onnx file$"):
        model_sha256(tmp_path / "absent.onnx")


def test_every_preset_survives_the_manifest(tmp_path: Path) -> None:
    for name, preset in PRESETS.items():
        manifest = Manifest(network="n", model_sha256="", hardware=preset, files={})
        write_folder(tmp_path / name, {MANIFEST: manifest.to_json().encode()})
        assert read_manifest(tmp_path / name).hardware == preset
