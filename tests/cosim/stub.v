// Stands for the accelerator where only the bench is tested: output byte = input byte + 1, one word at a time.
// program_entry 0x100 never raises irq; an error response stops it with error code 3 (read) or 4 (write).
module \hwgen_accelerator.compute (
    output trace_valid,
    output [23:0] trace_address, output [15:0] trace_mask, output [127:0] trace_data,
    input valid, input [23:0] address, input [127:0] data);
    assign trace_valid = valid;
    assign trace_address = address;
    assign trace_mask = 16'hffff;
    assign trace_data = data;
endmodule

// A word that arrives is a pixel, every other cycle waits for a load; one command per run.
module \hwgen_accelerator.activity (
    output [8:0] trace_cause,
    output trace_accepted,
    output trace_done,
    input running, input first, input valid, input last);
    assign trace_cause = !running ? 9'd0 : valid ? 9'd1 : 9'd2;
    assign trace_accepted = running && first;
    assign trace_done = running && valid && last;
endmodule

module hwgen_accelerator(
    input clk, input rst, output irq,
    input [7:0] s_axil_awaddr, input [2:0] s_axil_awprot, input s_axil_awvalid, output s_axil_awready,
    input [31:0] s_axil_wdata, input [3:0] s_axil_wstrb, input s_axil_wvalid, output s_axil_wready,
    output [1:0] s_axil_bresp, output reg s_axil_bvalid, input s_axil_bready,
    input [7:0] s_axil_araddr, input [2:0] s_axil_arprot, input s_axil_arvalid, output s_axil_arready,
    output reg [31:0] s_axil_rdata, output [1:0] s_axil_rresp, output reg s_axil_rvalid, input s_axil_rready,
    output [3:0] m_axi_awid, output reg [31:0] m_axi_awaddr, output [7:0] m_axi_awlen, output [2:0] m_axi_awsize, output [1:0] m_axi_awburst,
    output m_axi_awlock, output [3:0] m_axi_awcache, output [2:0] m_axi_awprot, output [3:0] m_axi_awqos, output reg m_axi_awvalid, input m_axi_awready,
    output reg [127:0] m_axi_wdata, output [15:0] m_axi_wstrb, output m_axi_wlast, output reg m_axi_wvalid, input m_axi_wready,
    input [3:0] m_axi_bid, input [1:0] m_axi_bresp, input m_axi_bvalid, output m_axi_bready,
    output [3:0] m_axi_arid, output reg [31:0] m_axi_araddr, output [7:0] m_axi_arlen, output [2:0] m_axi_arsize, output [1:0] m_axi_arburst,
    output m_axi_arlock, output [3:0] m_axi_arcache, output [2:0] m_axi_arprot, output [3:0] m_axi_arqos, output reg m_axi_arvalid, input m_axi_arready,
    input [3:0] m_axi_rid, input [127:0] m_axi_rdata, input [1:0] m_axi_rresp, input m_axi_rlast, input m_axi_rvalid, output m_axi_rready
);
    assign s_axil_bresp = 0, s_axil_rresp = 0;
    assign m_axi_awid = 0, m_axi_awlen = 0, m_axi_awsize = 4, m_axi_awburst = 1, m_axi_awlock = 0, m_axi_awcache = 0, m_axi_awprot = 0, m_axi_awqos = 0;
    assign m_axi_arid = 0, m_axi_arlen = 0, m_axi_arsize = 4, m_axi_arburst = 1, m_axi_arlock = 0, m_axi_arcache = 0, m_axi_arprot = 0, m_axi_arqos = 0;
    assign m_axi_wstrb = 16'hffff, m_axi_wlast = 1;

    reg [31:0] registers [0:63];
    integer k;
    reg [2:0] state;
    reg [31:0] offset;
    reg done, failed, seen;
    reg [7:0] code;
    assign irq = !seen && |(registers[8] & {failed, done} & 3);
    wire write = s_axil_awvalid && s_axil_wvalid && !s_axil_bvalid;
    assign s_axil_awready = write, s_axil_wready = write;
    assign s_axil_arready = !s_axil_rvalid;
    assign m_axi_rready = state == 2, m_axi_bready = state == 4;
    reg [127:0] next;
    always @* for (k = 0; k < 16; k = k + 1) next[8*k +: 8] = m_axi_rdata[8*k +: 8] + 8'd1;
    \hwgen_accelerator.compute compute(.valid(m_axi_rvalid && m_axi_rready), .address(offset[27:4]), .data(next),
                    .trace_valid(), .trace_address(), .trace_mask(), .trace_data());
    \hwgen_accelerator.activity activity(.running(state != 0), .first(registers[40] == 0), .valid(m_axi_rvalid && m_axi_rready),
                    .last(offset + 16 >= registers[30]), .trace_cause(), .trace_accepted(), .trace_done());
    always @(posedge clk) begin
        if (s_axil_bready) s_axil_bvalid <= 0;
        if (s_axil_rready) s_axil_rvalid <= 0;
        if (write) begin
            registers[s_axil_awaddr[7:2]] <= s_axil_wdata;
            s_axil_bvalid <= 1;
            if (s_axil_awaddr == 8'h24) seen <= 1;
            if (s_axil_awaddr == 8'h0c && s_axil_wdata[0]) begin state <= 1; offset <= 0; done <= 0; failed <= 0; code <= 0; seen <= 0; registers[40] <= 0; end
        end
        if (s_axil_arvalid && s_axil_arready) begin
            s_axil_rvalid <= 1;
            case (s_axil_araddr)
                8'h10: s_axil_rdata <= {29'd0, failed, done, state != 0};
                8'h14: s_axil_rdata <= code;
                default: s_axil_rdata <= registers[s_axil_araddr[7:2]];
            endcase
        end
        if (state != 0) registers[40] <= registers[40] + 1;
        case (state)
            1: if (registers[11] != 32'h100) begin
                m_axi_araddr <= registers[28] + offset; m_axi_arvalid <= 1;
                if (m_axi_arvalid && m_axi_arready) begin m_axi_arvalid <= 0; state <= 2; end
            end
            2: if (m_axi_rvalid) begin
                if (m_axi_rresp != 0) begin failed <= 1; code <= 3; state <= 0; end
                else begin
                    m_axi_wdata <= next; m_axi_awaddr <= registers[32] + offset; m_axi_awvalid <= 1; m_axi_wvalid <= 1; state <= 3;
                end
            end
            3: begin
                if (m_axi_awready) m_axi_awvalid <= 0;
                if (m_axi_wready) begin m_axi_wvalid <= 0; if (m_axi_wvalid) state <= 4; end
            end
            4: if (m_axi_bvalid) begin
                offset <= offset + 16;
                if (m_axi_bresp != 0) begin failed <= 1; code <= 4; state <= 0; end
                else if (offset + 16 >= registers[30]) begin done <= 1; state <= 0; end
                else state <= 1;
            end
            default: ;
        endcase
        if (rst) begin
            state <= 0; offset <= 0; done <= 0; failed <= 0; seen <= 0; code <= 0;
            s_axil_bvalid <= 0; s_axil_rvalid <= 0; m_axi_awvalid <= 0; m_axi_wvalid <= 0; m_axi_arvalid <= 0;
            for (k = 0; k < 64; k = k + 1) registers[k] <= 0;
        end
    end
endmodule
