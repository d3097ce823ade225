// The accelerator on Wishbone: its memory, with latency and random stalls, and the rules that it must keep. Part of bench.v, which says
// what the arguments mean; a word's answer comes `latency` cycles after the word was taken, or after the answer before it.
`timescale 1ns / 1ps
module bench_bus #(
    parameter BUS_BITS = 128,
    parameter ADDRESS_BITS = 32,
    parameter MEMORY_WORDS_LOG2 = 22
) (
    input  wire clk, rst,
    input  wire [31:0] now, stall, latency, log_file,
    input  wire [63:0] random, memory_base, read_error, write_error,
    input  wire copying,  // a word of the memory goes to another place: what the processor writes
    input  wire [MEMORY_WORDS_LOG2-1:0] copy_from, copy_to,
    output wire irq,
    // the host's side, as AXI4-Lite: write address and data come together
    input  wire awvalid, wvalid, bready, arvalid, rready,
    input  wire [7:0] awaddr, araddr,
    input  wire [31:0] wdata,
    output wire awready, wready, bvalid, arready, rvalid,
    output wire [1:0] bresp, rresp,
    output wire [31:0] rdata
);
    localparam BYTES = BUS_BITS / 8;
    localparam SIZE = $clog2(BYTES);
    localparam QUEUE_LOG2 = 6;

    reg [BUS_BITS-1:0] memory [0:(1 << MEMORY_WORDS_LOG2) - 1];
    reg [8*256-1:0] name;
    initial if ($value$plusargs("memory=%s", name)) $readmemh(name, memory);

    wire cyc, stb, we, stalled, ack, err;
    wire [ADDRESS_BITS-1:0] address;
    wire [BYTES-1:0] select;
    wire [BUS_BITS-1:0] written;
    reg [BUS_BITS-1:0] answer;
    reg s_open = 0, s_done = 0, s_write = 0;
    reg [31:0] s_answer;
    wire s_stb = (awvalid || arvalid) && !s_open && !s_done;
    wire s_stall, s_ack;
    wire [31:0] s_data;

    hwgen_accelerator dut (
        .clk(clk), .rst(rst), .irq(irq),
        .s_wb_cyc_i(s_stb || s_open), .s_wb_stb_i(s_stb), .s_wb_we_i(awvalid), .s_wb_adr_i(awvalid ? awaddr : araddr), .s_wb_sel_i(4'hf),
        .s_wb_dat_i(wdata), .s_wb_dat_o(s_data), .s_wb_stall_o(s_stall), .s_wb_ack_o(s_ack),
        .m_wb_cyc_o(cyc), .m_wb_stb_o(stb), .m_wb_we_o(we), .m_wb_adr_o(address), .m_wb_sel_o(select), .m_wb_dat_o(written),
        .m_wb_dat_i(ack ? answer : {BUS_BITS{1'bx}}), .m_wb_stall_i(stalled), .m_wb_ack_i(ack), .m_wb_err_i(err)
    );

    // ---------------------------------------------------------------- memory
    reg [BUS_BITS-1:0] answers [0:(1 << QUEUE_LOG2) - 1];
    reg refused [0:(1 << QUEUE_LOG2) - 1];
    reg [31:0] due [0:(1 << QUEUE_LOG2) - 1];
    reg [QUEUE_LOG2:0] head = 0, tail = 0;
    wire [QUEUE_LOG2:0] count = tail - head;
    wire [QUEUE_LOG2-1:0] front = head[QUEUE_LOG2-1:0], back = tail[QUEUE_LOG2-1:0];
    wire [ADDRESS_BITS-1:0] place = address - memory_base[ADDRESS_BITS-1:0];
    wire [MEMORY_WORDS_LOG2-1:0] word = place[SIZE +: MEMORY_WORDS_LOG2];
    wire exists = (place >> (SIZE + MEMORY_WORDS_LOG2)) == 0;
    wire refuse = !exists || ((we ? write_error : read_error) - address) < BYTES;
    wire taken = cyc && stb && !stalled;
    wire answered = count != 0 && random[31:24] >= stall && $signed(now - due[front]) >= 0;
    reg [BUS_BITS-1:0] merged;
    integer k;
    assign stalled = random[7:0] < stall || rst || count[QUEUE_LOG2];
    assign ack = answered && !refused[front];
    assign err = answered && refused[front];
    always @* answer = answers[front];
    always @(posedge clk) begin
        if (copying) memory[copy_to] <= memory[copy_from];
        if (taken) begin
            merged = memory[word];
            answers[back] <= merged;
            refused[back] <= refuse;
            due[back] <= now + latency;
            tail <= tail + 1'b1;
            for (k = 0; k < BYTES; k = k + 1) if (select[k]) merged[8*k +: 8] = written[8*k +: 8];
            if (we && !refuse) memory[word] <= merged;
        end
        if (answered) head <= head + 1'b1;
        if (rst) head <= tail;
    end

    // ---------------------------------------------------------------- rules that the accelerator must keep
    wire [ADDRESS_BITS+BUS_BITS+BYTES:0] offer = {address, we ? written : {BUS_BITS{1'b0}}, select, we};
    reg [ADDRESS_BITS+BUS_BITS+BYTES:0] offered = 0;
    reg waiting = 0;
    always @(posedge clk) if (!rst) begin
        if (stb && !cyc) $fwrite(log_file, "violation %0d word offered without cyc\n", now);
        if (count != 0 && !cyc) $fwrite(log_file, "violation %0d cyc dropped with %0d answers under way\n", now, count);
        if (stb && (|address[SIZE-1:0] || (select != {BYTES{1'b1}} && !(we && select == 0))))
            $fwrite(log_file, "violation %0d address %h, select %h\n", now, address, select);
        if (waiting && (!stb || offer != offered)) $fwrite(log_file, "violation %0d stalled word withdrawn\n", now);
        waiting <= stb && stalled;
        offered <= offer;
    end else waiting <= 0;

    // ---------------------------------------------------------------- the host's accesses, one at a time
    assign awready = s_stb && !s_stall, wready = awready && awvalid, arready = awready && !awvalid;
    assign bvalid = s_done && s_write, rvalid = s_done && !s_write;
    assign bresp = 0, rresp = 0, rdata = s_answer;
    always @(posedge clk) begin
        if (s_stb && !s_stall) begin
            s_open <= 1;
            s_write <= awvalid;
        end
        if (s_ack) begin
            s_open <= 0;
            s_done <= 1;
            s_answer <= s_data;
        end
        if (s_ack && !s_open) $fwrite(log_file, "violation %0d register answer that nobody waits for\n", now);
        if (s_done && (s_write ? bready : rready)) s_done <= 0;
        if (rst) begin
            s_open <= 0;
            s_done <= 0;
        end
    end
endmodule
