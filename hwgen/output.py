"""The folder that `build` makes: written beside its place and moved there whole, described by a manifest, checked before use."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hwgen import __version__
from hwgen.config import HardwareConfig
from hwgen.errors import HwgenError, MismatchError, ModelError, OutputError

MANIFEST = "manifest.json"
REPORT_FOLDER = "report/"  # rewritten by `verify`, so not under the manifest's hashes
REPORT_JSON, REPORT_HTML = f"{REPORT_FOLDER}report.json", f"{REPORT_FOLDER}report.html"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What OUT holds: model and hardware that it was built from, SHA-256 of every file outside report/."""

    network: str
    model_sha256: str
    hardware: HardwareConfig
    files: Mapping[str, str]

    def to_json(self) -> str:
        content = {
            "tool": {"name": "hwgen", "version": __version__},
            "network": self.network,
            "model_sha256": self.model_sha256,
            "hardware": self.hardware.values(),
            "hardware_sha256": self.hardware.hash(),
            "files": dict(sorted(self.files.items())),
        }
        return json.dumps(content, indent=2) + "\n"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a built folder. Raises OutputError when `folder` is none, or its manifest is damaged."""
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["tool"]["name"] != "hwgen":
            raise KeyError("tool")
        hardware = HardwareConfig.from_values(content["hardware"])
        files = {str(name): str(digest) for name, digest in content["files"].items()}
        return Manifest(network=str(content["network"]), model_sha256=str(content["model_sha256"]), hardware=hardware, files=files)
    except OSError as error:
        raise OutputError(f"folder {folder.name!r}: must be made by `hwgen build`, {MANIFEST} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, HwgenError) as error:
        raise OutputError(f"folder {folder.name!r}: {MANIFEST} is damaged ({type(error).__name__}); build again") from error


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raises MismatchError naming every file that is missing or was changed after the build."""
    changed = []
    for name, digest in manifest.files.items():
        path = folder / name
        try:
            same = path.resolve().is_relative_to(folder.resolve()) and sha256(path.read_bytes()) == digest
        except (OSError, RuntimeError):  # missing, not a file, unreadable, a link to itself
            same = False
        if not same:
            changed.append(name)
    if changed:
        raise MismatchError(f"folder {folder.name!r}: files must be as built, missing or changed: {', '.join(changed[:10])}; build again")


def check_replaceable(folder: Path, *, force: bool) -> None:
    """Raises OutputError early when `folder` cannot be written or holds something that hwgen did not make."""
    try:
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise OutputError(f"output {str(folder)!r}: must be a folder, is a file or a link; name another with -o")
        taken = folder.is_dir() and any(folder.iterdir())
        parent = folder.absolute().parent
        existing = next(p for p in (parent, *parent.parents) if p.exists())
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise _unwritable(folder, error) from error
    if taken and not force:
        try:
            read_manifest(folder)
        except OutputError as error:
            raise OutputError(f"output {str(folder)!r}: exists and was not made by hwgen; name another folder with -o, or replace it with --force") from error
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"output {str(folder)!r}: cannot be written, {str(existing)!r} is not a writable folder; name another with -o")


def check_file_place(path: Path) -> None:
    """Raises OutputError early when `path` cannot be a file to write."""
    try:
        if path.is_dir():
            raise OutputError(f"output {str(path)!r}: must be a file, is a folder; name an .onnx file with -o")
    except OSError as error:
        raise _unwritable(path, error) from error


def places(out: Path | None, stem: str, suffixes: Sequence[str]) -> tuple[Path, ...]:
    """The files that `out` asks for: none, one file that ends in one of `suffixes`, or a folder with STEM.SUFFIX for each of them.

    Raises OutputError early where they cannot be written.
    """
    if out is None:
        return ()
    if out.suffix not in suffixes and out.is_file():
        raise OutputError(f"output {str(out)!r}: must be a folder, or end in {' or '.join(suffixes)}; name another with -o")
    files = (out,) if out.suffix in suffixes else tuple(out / f"{stem}{suffix}" for suffix in suffixes)
    for path in files:
        check_file_place(path)
    return files


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"output {str(path)!r}: cannot be written ({error.strerror}); name another with -o")


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """All of `files` (relative path -> content) as `folder`, replacing it whole; nothing is changed when anything fails."""
    target = folder.absolute()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as name:
            fresh = Path(name) / "new"
            for relative, content in files.items():
                path = fresh / relative
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            _exchange(fresh, target, Path(name) / "old")
    except OSError as error:
        raise _unwritable(folder, error) from error


def _exchange(fresh: Path, target: Path, old: Path) -> None:
    """`fresh` becomes `target`, and what was there `old`; or nothing moves."""
    if target.exists():
        target.replace(old)
    try:
        fresh.replace(target)
    except BaseException:  # an interrupt too must not lose the old folder
        if old.exists():
            old.replace(target)
        raise


def write_file(path: Path, content: bytes) -> None:
    """One file, whole or not at all. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".hwgen-") as folder:  # a name that nobody can have made a link of
            fresh = Path(folder) / "new"
            fresh.write_bytes(content)
            fresh.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from error


def model_sha256(path: Path) -> str:
    """Hash of the model file. Raises ModelError when it cannot be read."""
    try:
        return sha256(path.read_bytes())
    except OSError as error:
        raise ModelError(f"model {path.name!r}: cannot be read ({error.strerror}); name an .onnx file") from error
