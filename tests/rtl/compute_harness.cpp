// Drives the compute engine alone. Input: 32-bit words from a file; output: one line per event on stdout.
#include "Vcompute.h"
#include "verilated.h"
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

template <class T> static void put(T &port, const uint32_t *words) {
    uint64_t value = words[0];
    if (sizeof(T) > 4) value |= uint64_t(words[1]) << 32;
    port = T(value);
}
template <std::size_t W> static void put(VlWide<W> &port, const uint32_t *words) {
    for (std::size_t k = 0; k < W; k++) port[k] = words[k];
}
template <class T> static void show(const T &port) { printf(" %llx", (unsigned long long)port); }
template <std::size_t W> static void show(const VlWide<W> &port) {
    printf(" ");
    for (std::size_t k = W; k-- > 0;) printf("%08x", port[k]);
}

static Vcompute &model() {
    static Vcompute made;
    return made;
}
#define top model()
static uint64_t cycle = 0, busy = 0, lost[5], unexplained = 0;

static void settle() { top.eval(); }
static void edge() {
    if (top.trace_valid) {
        printf("t %llu", (unsigned long long)cycle);
        show(top.trace_address);
        show(top.trace_mask);
        show(top.trace_data);
        printf("\n");
    }
    busy += top.array_busy;
    int causes = top.array_busy;
    for (int k = 0; k < 5 && !top.rst; k++) lost[k] += top.lost >> k & 1, causes += top.lost >> k & 1;
    unexplained += !top.rst && causes != !top.command_ready;  // one cause for each cycle with a command, none for others
    if (top.done) printf("d %llu\n", (unsigned long long)cycle);
    top.clk = 1;
    top.eval();
    top.clk = 0;
    top.eval();
    cycle++;
}

int main(int, char **argv) {
    Verilated::randReset(2);  // registers without a reset start with anything
    Verilated::randSeed(7);
    std::vector<uint32_t> words;
    FILE *file = fopen(argv[1], "rb");
    for (uint32_t word; fread(&word, 4, 1, file) == 1;) words.push_back(word);
    fclose(file);
    const uint32_t *p = words.data();
    uint32_t load_words = *p++, loads = *p++, command_words = *p++, commands = *p++, side_loads = *p++, reads = *p++, disturb = *p++, limit = *p++, abort_after = *p++;
    top.clk = top.abort_now = top.command_valid = top.store_read_valid = top.load_write_valid = 0;
    top.rst = 1;
    edge();
    edge();
    top.rst = 0;
    top.load_write_valid = 1;
    for (uint32_t k = 0; k < loads; k++, p += load_words) {
        put(top.load_write_payload, p);
        settle();
        edge();
    }
    top.load_write_valid = 0;
    const uint32_t *side = p;
    p += side_loads * load_words;
    uint32_t random = 12345, next = 0, done = 0, side_done = 0;
    if (abort_after) {  // begin the first command, drop it, then go on as if nothing had been
        put(top.command_payload, p + 1);
        top.command_valid = 1;
        settle();
        edge();
        top.command_valid = 0;
        for (uint32_t k = 1; k < abort_after; k++) settle(), edge();
        top.abort_now = 1;
        settle();
        edge();
        top.abort_now = 0;
        settle();
        printf("x %d\n", int(top.idle));
    }
    uint64_t start = cycle;
    // Side traffic: loads into words that no command uses, and reads, whenever the engine lets them.
    for (uint32_t pause = 0; done < commands && cycle - start < limit;) {
        top.command_valid = next < commands && pause == 0;
        if (next < commands) put(top.command_payload, p + 1 + next * (command_words + 1));
        if (disturb) {
            random = random * 1664525u + 1013904223u;
            top.load_write_valid = side_done < side_loads && (random >> 30) != 0;
            if (side_done < side_loads) put(top.load_write_payload, side + side_done * load_words);
            top.store_read_valid = (random >> 28 & 3) != 0;
            top.store_read_payload = random >> 8 & 0xFFFFF;
        }
        settle();
        if (top.command_valid && top.command_ready) {
            printf("a %llu\n", (unsigned long long)cycle);
            next++;
            pause = next < commands ? p[next * (command_words + 1)] + 1 : 0;
        }
        if (top.load_write_valid && top.load_write_ready) side_done++;
        if (pause) pause--;
        done += top.done;
        edge();
    }
    p += commands * (command_words + 1);
    top.command_valid = 0;
    top.store_read_valid = 0;
    top.load_write_valid = 0;
    for (; disturb && side_done < side_loads; side_done++) {
        top.load_write_valid = 1;
        put(top.load_write_payload, side + side_done * load_words);
        settle();
        edge();
    }
    top.load_write_valid = 0;
    printf("l");
    for (uint64_t count : lost) printf(" %llu", (unsigned long long)count);
    printf(" %llu\n", (unsigned long long)unexplained);
    printf("c %llu %llu %d\n", (unsigned long long)(cycle - start), (unsigned long long)busy, int(top.idle));
    for (uint32_t k = 0; k < reads; k++) {
        top.store_read_valid = 1;
        top.store_read_payload = k;
        for (int wait = 0; wait < READ_CYCLES; wait++) {
            settle();
            edge();
        }
        printf("r %u", k);
        show(top.store_data);
        printf("\n");
    }
    return done == commands ? 0 : 3;
}
