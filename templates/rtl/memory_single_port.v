// A memory with one port, to be inferred as block RAM or as a larger single-port RAM. Its contents start undefined.
// Members: enable with write 0 reads; write has one bit per lane of WIDTH / LANES bits; read_data holds its value but where a word is read.
// Timing: read_data one cycle after the address.
module hwgen_single_port_memory #(
  parameter WIDTH = 32,
  parameter DEPTH = 16,
  parameter ADDRESS_BITS = 4,
  parameter LANES = 4
) (
  input wire clk,
  input wire enable,
  input wire [LANES-1:0] write,
  input wire [ADDRESS_BITS-1:0] address,
  input wire [WIDTH-1:0] write_data,
  output reg [WIDTH-1:0] read_data
);
  localparam LANE_BITS = WIDTH / LANES;

  reg [WIDTH-1:0] words [0:DEPTH-1];
  integer lane;

  always @(posedge clk) begin
    if (enable) begin
      for (lane = 0; lane < LANES; lane = lane + 1)
        if (write[lane]) words[address][lane*LANE_BITS +: LANE_BITS] <= write_data[lane*LANE_BITS +: LANE_BITS];
      if (write == 0) read_data <= words[address];
    end
  end
endmodule
