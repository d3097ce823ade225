// Bench of the accelerator: host processor, memory and monitors. Plain Verilog; runs on Verilator and Icarus.
//
// The clock comes from outside. Everything that depends on the network comes in files, named by plus-arguments, so that the
// compiled simulation depends on the hardware alone:
//   +memory=FILE  $readmemh image of the memory       +script=FILE  $readmemh table of host operations, 64 bits each
//   +log=FILE     text, one event per line            +dump=FILE    binary: memory ranges that the script asked for
//   +trace=FILE   binary: every result that the compute engine writes (absent: no trace)
//   +commands=FILE  binary: for every CONV when it ran, and the cycles of each cause until then; at last one for the run (absent: none)
//   +latency=N    cycles from a read address to its first data, and from the last write data to the response; at least 1
//   +stall=P      0..255: every ready and every valid of the bench is held back with probability P/256 in each cycle
//   +seed=N       of the stalls                       +read_error=A, +write_error=A  byte addresses (hex) that answer an error
//   +base=A       byte address (hex) of the memory's first word
//
// Host operation: bits 63..56 code, 55..32 address, 31..0 data.
// `TRACE_SCOPE is the instance whose trace_valid, trace_address, trace_mask and trace_data show the results; `CAUSE_SCOPE the one whose
// trace_cause says for each cycle of a run, one bit per cause, bit 0 a pixel, what the array did; trace_accepted, trace_done: a CONV.
//
//   0 end   1 write register   2 read register (logged)   3 wait for irq at most `data` cycles
//   4 begin inference `data`; after a wait that timed out: end
//   5 dump `data` bus words from bus word `address`   6 reset for `data` cycles   7 idle for `data` cycles
//   8 read register `address[7:0]` until none of the bits `data` is set, at most `address[23:8]` times
//   9 copy from bus word `data` on, see 10      10 copy `data` bus words to bus word `address` on: what a processor computed
`timescale 1ns / 1ps
`ifndef TRACE_SCOPE
`define TRACE_SCOPE dut.compute
`endif
`ifndef CAUSE_SCOPE
`define CAUSE_SCOPE dut.activity
`endif
module bench #(
    parameter BUS_BITS = 128,
    parameter ADDRESS_BITS = 32,
    parameter LANES = 16,
    parameter MEMORY_WORDS_LOG2 = 22,
    parameter SCRIPT_LOG2 = 17
) (
    input  wire clk,
    output reg  finished
);
    localparam MASK_BITS = 32 * ((LANES + 31) / 32);
    localparam CAUSES = 9;

    reg [63:0] script [0:(1 << SCRIPT_LOG2) - 1];

    reg [8*256-1:0] name;
    integer log_file, dump_file, trace_file, commands_file;
    integer latency, stall, seed;
    reg [63:0] memory_base, read_error, write_error;
    reg trace_on, commands_on;

    // ---------------------------------------------------------------- the accelerator
    reg rst;
    wire irq;
    reg [7:0] awaddr, araddr;
    reg awvalid, wvalid, arvalid;
    reg [31:0] wdata;
    wire awready, wready, arready, bvalid, rvalid;
    wire bready, rready;
    wire [1:0] bresp, rresp;
    wire [31:0] rdata;

    bench_bus #(.BUS_BITS(BUS_BITS), .ADDRESS_BITS(ADDRESS_BITS), .MEMORY_WORDS_LOG2(MEMORY_WORDS_LOG2)) bus (
        .clk(clk), .rst(rst), .now(now), .stall(stall), .latency(latency), .log_file(log_file),
        .random(random), .copying(state == COPY), .copy_from(copy_from), .copy_to(copy_to), .memory_base(memory_base), .read_error(read_error), .write_error(write_error), .irq(irq),
        .awvalid(awvalid), .awaddr(awaddr), .awready(awready), .wvalid(wvalid), .wdata(wdata), .wready(wready),
        .bvalid(bvalid), .bresp(bresp), .bready(bready), .arvalid(arvalid), .araddr(araddr), .arready(arready),
        .rvalid(rvalid), .rdata(rdata), .rresp(rresp), .rready(rready)
    );

    initial begin
        finished = 0;
        rst = 1;
        awvalid = 0; wvalid = 0; arvalid = 0; awaddr = 0; araddr = 0; wdata = 0;
        latency = 1; stall = 0; seed = 1;
        memory_base = 0; read_error = ~64'd0; write_error = ~64'd0;
        if ($value$plusargs("script=%s", name)) $readmemh(name, script);
        if (!$value$plusargs("latency=%d", latency)) latency = 1;
        if (!$value$plusargs("stall=%d", stall)) stall = 0;
        if (!$value$plusargs("seed=%d", seed)) seed = 1;
        if (!$value$plusargs("base=%h", memory_base)) memory_base = 0;
        if (!$value$plusargs("read_error=%h", read_error)) read_error = ~64'd0;
        if (!$value$plusargs("write_error=%h", write_error)) write_error = ~64'd0;
        log_file = 0; dump_file = 0; trace_file = 0; commands_file = 0;
        if ($value$plusargs("log=%s", name)) log_file = $fopen(name, "w");
        if ($value$plusargs("dump=%s", name)) dump_file = $fopen(name, "wb");
        if ($value$plusargs("trace=%s", name)) trace_file = $fopen(name, "wb");
        if ($value$plusargs("commands=%s", name)) commands_file = $fopen(name, "wb");
        trace_on = trace_file != 0;
        commands_on = commands_file != 0;
        random = {32'h9e3779b9, seed[31:0]} ^ 64'd88172645463325252;
    end

    // ---------------------------------------------------------------- time and chance
    reg [31:0] now = 0;
    reg [63:0] random;
    reg [63:0] mixed;
    wire stalling = stall != 0;
    always @(posedge clk) begin
        now <= now + 1;
        if (stalling) begin  // xorshift64
            mixed = random;
            mixed = mixed ^ (mixed << 13);
            mixed = mixed ^ (mixed >> 7);
            mixed = mixed ^ (mixed << 17);
            random <= mixed;
        end
    end
    wire hold_host = stalling && random[47:40] < stall;
    wire hold_host_r = stalling && random[55:48] < stall;

    // ---------------------------------------------------------------- results of the compute engine
    reg [31:0] inference = 0;
    reg [31:0] command = 0;
    reg [31:0] since = 0;  // when the last register write was taken; before a result: the start
    reg restart_trace = 0;
    wire [MASK_BITS-1:0] trace_mask = bus.`TRACE_SCOPE.trace_mask;
    always @(posedge clk) if (trace_on) begin
        if (bus.`TRACE_SCOPE.trace_valid)
            $fwrite(trace_file, "%u", {bus.`TRACE_SCOPE.trace_data[8*LANES-1:0], trace_mask, 8'd0, bus.`TRACE_SCOPE.trace_address[23:0], now - since, command, inference});
        if (restart_trace) command <= 0;
        else if (bus.`CAUSE_SCOPE.trace_done) command <= command + 1;
    end

    // ---------------------------------------------------------------- what the array did, and why not more
    // Before a CONV is done the next one can be accepted, but not take a pixel.
    reg [31:0] run = 0;  // cycles of the run before this one
    reg [31:0] accepted = 0, accepted_next = 0, first = 0, last = 0;
    reg taking = 0;  // the command has taken a pixel
    reg over = 0;
    reg [32*CAUSES-1:0] counts = 0;
    wire [CAUSES-1:0] cause = bus.`CAUSE_SCOPE.trace_cause;
    integer which;
    always @(posedge clk) if (commands_on) begin
        if (restart_trace) begin
            run <= 0;
            counts <= 0;
            taking <= 0;
            over <= 0;
        end else if (|cause) begin
            run <= run + 1;
            for (which = 0; which < CAUSES; which = which + 1) if (cause[which]) counts[32*which +: 32] <= counts[32*which +: 32] + 1;
            if (bus.`CAUSE_SCOPE.trace_accepted) accepted_next <= run;
            if (cause[0]) begin
                if (!taking) begin
                    first <= run;
                    accepted <= accepted_next;
                end
                last <= run;
                taking <= 1;
            end
            if (bus.`CAUSE_SCOPE.trace_done) begin
                $fwrite(commands_file, "%u", {counts, run, last, first, accepted, 32'd0, inference});
                taking <= 0;
            end
        end else if (run != 0 && !over) begin
            $fwrite(commands_file, "%u", {counts, run, last, first, accepted, 32'd1, inference});
            over <= 1;
        end
    end

    // ---------------------------------------------------------------- host
    localparam FETCH = 0, WRITE = 1, READ = 2, WAIT = 3, RESET = 4, IDLE = 5, DONE = 6, COPY = 7;
    localparam POWER_ON_CYCLES = 8;
    reg [2:0] state = RESET;
    reg [SCRIPT_LOG2-1:0] pc = 0;
    wire [63:0] operation = script[pc];
    reg [31:0] left = POWER_ON_CYCLES;
    reg [31:0] polled = 0;  // bits for which READ waits
    reg timed_out = 0;
    reg [MEMORY_WORDS_LOG2-1:0] copy_from = 0, copy_to = 0;
    assign bready = state == WRITE && !hold_host_r;
    assign rready = state == READ && !hold_host_r;
    integer word;
    always @(posedge clk) begin
        restart_trace <= 0;
        case (state)
            RESET, IDLE: begin
                left <= left - 1;
                rst <= state == RESET && left > 1;
                if (left <= 1) state <= FETCH;
            end
            FETCH: if (!hold_host) begin
                pc <= pc + 1'b1;
                left <= operation[31:0];
                case (operation[63:56])
                    8'd1: begin
                        state <= WRITE; awaddr <= operation[39:32]; wdata <= operation[31:0]; awvalid <= 1; wvalid <= 1;
                    end
                    8'd2: begin
                        state <= READ; araddr <= operation[39:32]; arvalid <= 1; polled <= 0;
                    end
                    8'd8: begin
                        state <= READ; araddr <= operation[39:32]; arvalid <= 1; polled <= operation[31:0]; left <= operation[55:40];
                    end
                    8'd3: state <= WAIT;
                    8'd4: if (timed_out) state <= DONE;
                    else begin
                        inference <= operation[31:0]; restart_trace <= 1;
                        $display("inference %0d", operation[31:0]);
                    end
                    8'd5: for (word = 0; word < operation[31:0]; word = word + 1)
                        $fwrite(dump_file, "%u", bus.memory[operation[32 +: 24] + word]);
                    8'd6: begin
                        state <= RESET; rst <= 1;
                    end
                    8'd7: state <= IDLE;
                    8'd9: copy_from <= operation[0 +: MEMORY_WORDS_LOG2];
                    8'd10: begin
                        state <= COPY; copy_to <= operation[32 +: MEMORY_WORDS_LOG2];
                    end
                    default: state <= DONE;
                endcase
            end
            COPY: begin
                copy_from <= copy_from + 1'b1;
                copy_to <= copy_to + 1'b1;
                left <= left - 1;
                if (left <= 1) state <= FETCH;
            end
            WRITE: begin
                if (awready) awvalid <= 0;
                if (wready) begin
                    wvalid <= 0;
                    if (wvalid) since <= now;
                end
                if (bvalid && bready) begin
                    state <= FETCH;
                    if (bresp != 0) $fwrite(log_file, "violation %0d response %0d to a write of register %h\n", now, bresp, awaddr);
                end
            end
            READ: begin
                if (arready) arvalid <= 0;
                if (rvalid && rready && polled != 0) begin
                    left <= left - 1;
                    if ((rdata & polled) != 0 && left > 1) arvalid <= 1;
                    else state <= FETCH;
                end else if (rvalid && rready) begin
                    state <= FETCH;
                    $fwrite(log_file, "read %0d %h %h\n", inference, araddr, rdata);
                    if (rresp != 0) $fwrite(log_file, "violation %0d response %0d to a read of register %h\n", now, rresp, araddr);
                end
            end
            WAIT: begin
                left <= left - 1;
                if (irq) begin
                    $fwrite(log_file, "irq %0d %0d\n", inference, now - since);
                    state <= FETCH;
                end else if (left <= 1) begin
                    $fwrite(log_file, "timeout %0d %0d\n", inference, now - since);
                    timed_out <= 1;
                    state <= FETCH;
                end
            end
            default: if (!finished) begin
                finished <= 1;
                $fwrite(log_file, "end %0d\n", now);
                $fclose(log_file);
                if (dump_file != 0) $fclose(dump_file);
                if (trace_on) begin
                    $fclose(trace_file);
                    trace_on <= 0;
                end
                if (commands_on) begin
                    $fclose(commands_file);
                    commands_on <= 0;
                end
                log_file <= 0;
            end
        endcase
    end
endmodule
