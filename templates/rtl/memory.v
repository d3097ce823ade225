// A memory with one write port and one read port, to be inferred as block RAM. Its contents start undefined.
// Members: write_enable has one bit per lane of WIDTH / LANES bits; read_data holds its value while read_enable is low.
// Timing: read_data one cycle after the address. A read in the cycle of a write to the same word gives the old contents in simulation; no
// program of the compiler depends on it, so synthesis is told not to: block RAM needs no registers around it then.
module hwgen_memory #(
  parameter WIDTH = 8,
  parameter DEPTH = 16,
  parameter ADDRESS_BITS = 4,
  parameter LANES = 1
) (
  input wire clk,
  input wire [LANES-1:0] write_enable,
  input wire [ADDRESS_BITS-1:0] write_address,
  input wire [WIDTH-1:0] write_data,
  input wire read_enable,
  input wire [ADDRESS_BITS-1:0] read_address,
  output reg [WIDTH-1:0] read_data
);
  localparam LANE_BITS = WIDTH / LANES;

  (* no_rw_check *) reg [WIDTH-1:0] words [0:DEPTH-1];
  integer lane;

  always @(posedge clk) begin
    for (lane = 0; lane < LANES; lane = lane + 1)
      if (write_enable[lane]) words[write_address][lane*LANE_BITS +: LANE_BITS] <= write_data[lane*LANE_BITS +: LANE_BITS];
    if (read_enable) read_data <= words[read_address];
  end
endmodule
