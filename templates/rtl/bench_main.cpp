// Runs the bench under Verilator: makes the clock until the bench is finished, then reports the time that it took.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>

#include "Vbench.h"
#include "verilated.h"

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 12);
    const auto begin = std::chrono::steady_clock::now();
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const auto bench = std::make_unique<Vbench>(context.get());
    unsigned long long cycles = 0;
    bench->clk = 0;
    bench->eval();  // reads the memory image
    const auto wall = std::chrono::steady_clock::now();
    const std::clock_t cpu = std::clock();
    while (!bench->finished && !context->gotFinish()) {
        bench->clk = 1;
        bench->eval();
        bench->clk = 0;
        bench->eval();
        ++cycles;
    }
    bench->final();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - wall;
    const std::chrono::duration<double> load = wall - begin;
    const double busy = static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC;
    std::printf("finished %llu cycles %.6f seconds %.6f cpu %.6f load\n", cycles, seconds.count(), busy, load.count());
    return 0;
}
