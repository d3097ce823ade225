// The accelerator alone under Verilator, its clock, memory and host in C++: what a simulation of it costs without a bench in Verilog,
// without a trace and without checks. Memory: every address and word is taken at once, data and responses come one cycle later.
//   sim MEMORY SCRIPT DUMP    MEMORY: bytes from address 0; SCRIPT: the bench's table of host operations; DUMP: what they save
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "Vbench.h"
#include "verilated.h"

namespace {

struct Burst {
    uint64_t address;
    unsigned beats;
    uint64_t due;
};

class Machine {
public:
    Machine(std::vector<uint8_t> memory, VerilatedContext* context) : memory_(std::move(memory)), top_(new Vbench(context)) {
        top_->m_axi_arready = top_->m_axi_awready = 1;
        top_->clk = 0;
        top_->rst = 1;
        top_->eval();
        for (int k = 0; k < 8; ++k) cycle();
        top_->rst = 0;
    }

    void write_register(uint32_t address, uint32_t value) {
        top_->s_axil_awaddr = address;
        top_->s_axil_wdata = value;
        top_->s_axil_wstrb = 15;
        top_->s_axil_awvalid = top_->s_axil_wvalid = top_->s_axil_bready = 1;
        settle();
        bool answered = false;
        while (!answered) {
            const bool address_taken = top_->s_axil_awvalid && top_->s_axil_awready, word_taken = top_->s_axil_wvalid && top_->s_axil_wready;
            answered = top_->s_axil_bvalid;
            edge();
            if (address_taken) top_->s_axil_awvalid = 0;
            if (word_taken) top_->s_axil_wvalid = 0;
            settle();
        }
        top_->s_axil_bready = 0;
    }

    bool wait_irq(uint64_t limit) {
        for (; limit && !top_->irq; --limit) cycle();
        return top_->irq;
    }

    void cycle() {
        edge();
        settle();
    }

    uint64_t cycles() const { return now_; }
    const uint8_t* at(uint64_t address) const { return &memory_[address]; }

private:
    // What the settled wires transfer, then the rising edge.
    void edge() {
        const bool read = top_->m_axi_rvalid && top_->m_axi_rready, written = top_->m_axi_wvalid && top_->m_axi_wready;
        if (top_->m_axi_bvalid && top_->m_axi_bready) responses_.pop_front();
        if (written) {
            Burst& burst = writes_.front();
            const auto* bytes = reinterpret_cast<const uint8_t*>(&top_->m_axi_wdata);
            for (unsigned k = 0; k < BUS_BYTES; ++k)
                if (static_cast<uint64_t>(top_->m_axi_wstrb) >> k & 1) memory_[burst.address + k] = bytes[k];
            burst.address += BUS_BYTES;
            if (--burst.beats == 0) {
                writes_.pop_front();
                responses_.push_back(now_ + 1);
            }
        }
        if (read) {
            reads_.front().address += BUS_BYTES;
            if (--reads_.front().beats == 0) reads_.pop_front();
        }
        if (top_->m_axi_arvalid) reads_.push_back({top_->m_axi_araddr, top_->m_axi_arlen + 1u, now_ + 1});
        if (top_->m_axi_awvalid) writes_.push_back({top_->m_axi_awaddr, top_->m_axi_awlen + 1u, 0});
        top_->clk = 1;
        top_->eval();
        ++now_;
    }

    void settle() {
        top_->m_axi_rvalid = !reads_.empty() && reads_.front().due <= now_;
        if (top_->m_axi_rvalid) {
            std::memcpy(&top_->m_axi_rdata, &memory_[reads_.front().address], BUS_BYTES);
            top_->m_axi_rlast = reads_.front().beats == 1;
        }
        top_->m_axi_wready = !writes_.empty();
        top_->m_axi_bvalid = !responses_.empty() && responses_.front() <= now_;
        top_->clk = 0;
        top_->eval();
    }

    std::vector<uint8_t> memory_;
    std::unique_ptr<Vbench> top_;
    std::deque<Burst> reads_, writes_;
    std::deque<uint64_t> responses_;
    uint64_t now_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4) return 2;
    const auto context = std::make_unique<VerilatedContext>();
    std::ifstream file(argv[1], std::ios::binary);
    Machine machine({std::istreambuf_iterator<char>(file), {}}, context.get());
    std::ifstream script(argv[2]);
    std::ofstream dump(argv[3], std::ios::binary);
    const std::clock_t start = std::clock();
    for (std::string line; std::getline(script, line);) {
        const uint64_t operation = std::stoull(line, nullptr, 16), address = operation >> 32 & 0xffffff, data = operation & 0xffffffff;
        switch (operation >> 56) {
            case 1: machine.write_register(address & 0xff, data); break;
            case 3: if (!machine.wait_irq(data)) return 1; break;
            case 5: dump.write(reinterpret_cast<const char*>(machine.at(address * BUS_BYTES)), data * BUS_BYTES); break;
            default: break;  // registers that are read, marks of inferences, the end
        }
    }
    std::printf("%llu %.6f\n", static_cast<unsigned long long>(machine.cycles()), static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    return 0;
}
