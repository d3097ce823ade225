// Runs the bench under Verilator: makes the clock until the bench is finished, then reports the time that it took.
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>

#include "Vbench.h"
#include "verilated.h"

int main(int argc, char** argv) {
    std::setvbuf(stdout, nullptr, _IOLBF, 1 << 12);
    const auto wall = std::chrono::steady_clock::now();
    const std::clock_t cpu = std::clock();
    const auto context = std::make_unique<VerilatedContext>();
    context->commandArgs(argc, argv);
    const auto bench = std::make_unique<Vbench>(context.get());
    unsigned long long cycles = 0;
    bench->clk = 0;
    bench->eval();
    while (!bench->finished && !context->gotFinish()) {
        bench->clk = 1;
        bench->eval();
        bench->clk = 0;
        bench->eval();
        ++cycles;
    }
    bench->final();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - wall;
    std::printf("finished %llu cycles %.6f seconds %.6f cpu\n", cycles, seconds.count(), static_cast<double>(std::clock() - cpu) / CLOCKS_PER_SEC);
    return 0;
}
