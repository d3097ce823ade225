// The accelerator on AXI: its memory, with latency and random stalls, and the rules of AXI4 that it must keep. Part of bench.v, which
// says what the arguments mean.
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
    // the host's side, as AXI4-Lite
    input  wire awvalid, wvalid, bready, arvalid, rready,
    input  wire [7:0] awaddr, araddr,
    input  wire [31:0] wdata,
    output wire awready, wready, bvalid, arready, rvalid,
    output wire [1:0] bresp, rresp,
    output wire [31:0] rdata
);
    localparam BYTES = BUS_BITS / 8;
    localparam SIZE = $clog2(BYTES);
    localparam QUEUE = 16;

    reg [BUS_BITS-1:0] memory [0:(1 << MEMORY_WORDS_LOG2) - 1];
    reg [8*256-1:0] name;
    initial if ($value$plusargs("memory=%s", name)) $readmemh(name, memory);

    wire [3:0] m_awid, m_arid, m_awcache, m_arcache, m_awqos, m_arqos;
    wire [ADDRESS_BITS-1:0] m_awaddr, m_araddr;
    wire [7:0] m_awlen, m_arlen;
    wire [2:0] m_awsize, m_arsize, m_awprot, m_arprot;
    wire [1:0] m_awburst, m_arburst;
    wire m_awlock, m_arlock;
    wire m_awvalid, m_wvalid, m_wlast, m_bready, m_arvalid, m_rready;
    wire [BUS_BITS-1:0] m_wdata;
    wire [BYTES-1:0] m_wstrb;
    wire m_awready, m_wready, m_bvalid, m_arready, m_rvalid, m_rlast;
    wire [1:0] m_bresp, m_rresp;
    wire [BUS_BITS-1:0] m_rdata;

    hwgen_accelerator dut (
        .clk(clk), .rst(rst), .irq(irq),
        .s_axil_awaddr(awaddr), .s_axil_awprot(3'b000), .s_axil_awvalid(awvalid), .s_axil_awready(awready),
        .s_axil_wdata(wdata), .s_axil_wstrb(4'hf), .s_axil_wvalid(wvalid), .s_axil_wready(wready),
        .s_axil_bresp(bresp), .s_axil_bvalid(bvalid), .s_axil_bready(bready),
        .s_axil_araddr(araddr), .s_axil_arprot(3'b000), .s_axil_arvalid(arvalid), .s_axil_arready(arready),
        .s_axil_rdata(rdata), .s_axil_rresp(rresp), .s_axil_rvalid(rvalid), .s_axil_rready(rready),
        .m_axi_awid(m_awid), .m_axi_awaddr(m_awaddr), .m_axi_awlen(m_awlen), .m_axi_awsize(m_awsize), .m_axi_awburst(m_awburst),
        .m_axi_awlock(m_awlock), .m_axi_awcache(m_awcache), .m_axi_awprot(m_awprot), .m_axi_awqos(m_awqos),
        .m_axi_awvalid(m_awvalid), .m_axi_awready(m_awready),
        .m_axi_wdata(m_wdata), .m_axi_wstrb(m_wstrb), .m_axi_wlast(m_wlast), .m_axi_wvalid(m_wvalid), .m_axi_wready(m_wready),
        .m_axi_bid(4'd0), .m_axi_bresp(m_bresp), .m_axi_bvalid(m_bvalid), .m_axi_bready(m_bready),
        .m_axi_arid(m_arid), .m_axi_araddr(m_araddr), .m_axi_arlen(m_arlen), .m_axi_arsize(m_arsize), .m_axi_arburst(m_arburst),
        .m_axi_arlock(m_arlock), .m_axi_arcache(m_arcache), .m_axi_arprot(m_arprot), .m_axi_arqos(m_arqos),
        .m_axi_arvalid(m_arvalid), .m_axi_arready(m_arready),
        .m_axi_rid(4'd0), .m_axi_rdata(m_rdata), .m_axi_rresp(m_rresp), .m_axi_rlast(m_rlast), .m_axi_rvalid(m_rvalid), .m_axi_rready(m_rready)
    );

    wire hold_ar = random[7:0] < stall;
    wire hold_aw = random[15:8] < stall;
    wire hold_w = random[23:16] < stall;
    wire hold_r = random[31:24] < stall;
    wire hold_b = random[39:32] < stall;

    // ---------------------------------------------------------------- memory, reads
    // A valid that was offered stays: `*_open` keeps it until its handshake.
    reg [ADDRESS_BITS-1:0] read_address [0:QUEUE-1];
    reg [8:0] read_left [0:QUEUE-1];
    reg [31:0] read_due [0:QUEUE-1];
    reg [4:0] read_head = 0, read_tail = 0;
    reg read_open = 0;
    wire [3:0] read_at = read_head[3:0];
    wire [ADDRESS_BITS-1:0] read_now = read_address[read_at];
    wire [ADDRESS_BITS-1:0] read_place = read_now - memory_base[ADDRESS_BITS-1:0];
    wire read_inside = (read_place >> (SIZE + MEMORY_WORDS_LOG2)) == 0;
    wire [4:0] reads = read_tail - read_head;  // as wide as the pointers, or their wrap would count
    assign m_arready = !hold_ar && !rst && reads < QUEUE;
    assign m_rvalid = (read_tail != read_head) && (read_open || (!hold_r && $signed(now - read_due[read_at]) >= 0));
    assign m_rdata = memory[read_place[SIZE +: MEMORY_WORDS_LOG2]];
    assign m_rlast = read_left[read_at] == 1;
    assign m_rresp = !read_inside ? 2'b11 : (read_error - read_now) < BYTES ? 2'b10 : 2'b00;
    always @(posedge clk) begin
        if (m_arvalid && m_arready) begin
            read_address[read_tail[3:0]] <= m_araddr;
            read_left[read_tail[3:0]] <= m_arlen + 9'd1;
            read_due[read_tail[3:0]] <= now + latency;
            read_tail <= read_tail + 5'd1;
        end
        if (m_rvalid) read_open <= !m_rready;
        if (m_rvalid && m_rready) begin
            read_address[read_at] <= read_now + BYTES;
            read_left[read_at] <= read_left[read_at] - 9'd1;
            if (m_rlast) read_head <= read_head + 5'd1;
        end
        if (rst) begin
            read_head <= read_tail;
            read_open <= 0;
        end
    end

    // ---------------------------------------------------------------- memory, writes
    reg [ADDRESS_BITS-1:0] write_address [0:QUEUE-1];
    reg [8:0] write_left [0:QUEUE-1];
    reg [4:0] write_head = 0, write_tail = 0;
    reg [31:0] response_due [0:QUEUE-1];
    reg [1:0] response [0:QUEUE-1];
    reg [4:0] response_head = 0, response_tail = 0;
    reg response_open = 0;
    reg write_failed = 0;
    reg [BUS_BITS-1:0] merged;
    integer k;
    wire [3:0] write_at = write_head[3:0];
    wire [ADDRESS_BITS-1:0] write_now = write_address[write_at];
    wire [ADDRESS_BITS-1:0] write_place = write_now - memory_base[ADDRESS_BITS-1:0];
    wire write_inside = (write_place >> (SIZE + MEMORY_WORDS_LOG2)) == 0;
    wire write_bad = (write_error - write_now) < BYTES;
    wire [4:0] writes = write_tail - write_head;
    wire [4:0] responses = response_tail - response_head;
    assign m_awready = !hold_aw && !rst && writes < QUEUE;
    assign m_wready = !hold_w && (write_tail != write_head) && responses < QUEUE;
    assign m_bvalid = (response_tail != response_head) && (response_open || (!hold_b && $signed(now - response_due[response_head[3:0]]) >= 0));
    assign m_bresp = response[response_head[3:0]];
    always @(posedge clk) begin
        if (copying) memory[copy_to] <= memory[copy_from];
        if (m_awvalid && m_awready) begin
            write_address[write_tail[3:0]] <= m_awaddr;
            write_left[write_tail[3:0]] <= m_awlen + 9'd1;
            write_tail <= write_tail + 5'd1;
        end
        if (m_wvalid && m_wready) begin
            merged = memory[write_place[SIZE +: MEMORY_WORDS_LOG2]];
            for (k = 0; k < BYTES; k = k + 1) if (m_wstrb[k]) merged[8*k +: 8] = m_wdata[8*k +: 8];
            if (write_inside && !write_bad) memory[write_place[SIZE +: MEMORY_WORDS_LOG2]] <= merged;
            write_address[write_at] <= write_now + BYTES;
            write_left[write_at] <= write_left[write_at] - 9'd1;
            write_failed <= !m_wlast && (write_failed || write_bad);
            if (m_wlast) begin
                write_head <= write_head + 5'd1;
                response[response_tail[3:0]] <= !write_inside ? 2'b11 : (write_failed || write_bad) ? 2'b10 : 2'b00;
                response_due[response_tail[3:0]] <= now + latency;
                response_tail <= response_tail + 5'd1;
            end
        end
        if (m_bvalid) response_open <= !m_bready;
        if (m_bvalid && m_bready) response_head <= response_head + 5'd1;
        if (rst) begin
            write_head <= write_tail;
            write_failed <= 0;
            response_head <= response_tail;
            response_open <= 0;
        end
    end

    // ---------------------------------------------------------------- rules of AXI4 that the accelerator must keep
    reg [ADDRESS_BITS+16:0] ar_before = 0, aw_before = 0;
    reg [BUS_BITS+BYTES:0] w_before = 0;
    reg ar_waiting = 0, aw_waiting = 0, w_waiting = 0;
    wire [ADDRESS_BITS+16:0] ar_payload = {m_araddr, m_arlen, m_arsize, m_arburst, m_arid};
    wire [ADDRESS_BITS+16:0] aw_payload = {m_awaddr, m_awlen, m_awsize, m_awburst, m_awid};
    wire [BUS_BITS+BYTES:0] w_payload = {m_wdata, m_wstrb, m_wlast};
    wire [12:0] ar_end = m_araddr[11:0] + (({5'd0, m_arlen} + 13'd1) << SIZE);
    wire [12:0] aw_end = m_awaddr[11:0] + (({5'd0, m_awlen} + 13'd1) << SIZE);
    always @(posedge clk) if (!rst) begin
        if (m_arvalid && (m_arsize != SIZE || m_arburst != 2'b01 || |m_araddr[SIZE-1:0] || ar_end > 13'd4096))
            $fwrite(log_file, "violation %0d read address: %h, length %0d, size %0d, burst type %0d\n", now, m_araddr, m_arlen, m_arsize, m_arburst);
        if (m_awvalid && (m_awsize != SIZE || m_awburst != 2'b01 || |m_awaddr[SIZE-1:0] || aw_end > 13'd4096))
            $fwrite(log_file, "violation %0d write address: %h, length %0d, size %0d, burst type %0d\n", now, m_awaddr, m_awlen, m_awsize, m_awburst);
        if (m_wvalid && m_wready && m_wlast != (write_left[write_at] == 1))
            $fwrite(log_file, "violation %0d wlast is %0d with %0d words left\n", now, m_wlast, write_left[write_at]);
        if (ar_waiting && (!m_arvalid || ar_payload != ar_before)) $fwrite(log_file, "violation %0d read address withdrawn\n", now);
        if (aw_waiting && (!m_awvalid || aw_payload != aw_before)) $fwrite(log_file, "violation %0d write address withdrawn\n", now);
        if (w_waiting && (!m_wvalid || w_payload != w_before)) $fwrite(log_file, "violation %0d write data withdrawn\n", now);
        ar_waiting <= m_arvalid && !m_arready;
        aw_waiting <= m_awvalid && !m_awready;
        w_waiting <= m_wvalid && !m_wready;
        ar_before <= ar_payload;
        aw_before <= aw_payload;
        w_before <= w_payload;
    end else begin
        ar_waiting <= 0;
        aw_waiting <= 0;
        w_waiting <= 0;
    end
endmodule
