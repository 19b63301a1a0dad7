// A registered adder with an enable and a counter of its carries.
module adder(input clk, input enable, input [7:0] a, b, output reg [8:0] sum, output reg [3:0] carries);
  always @(posedge clk)
    if (enable) begin
      sum <= a + b;
      if (sum[8]) carries <= carries + 1;
    end
endmodule
