// A causal mask as torch.onnx.export(dynamo=True) writes it for long sequences, of which nothing is left but `right`.
// RUN: %mlc-opt %s --recognise | filecheck %s

// CHECK-LABEL: func.func @main
// CHECK-NOT: graph.trilu
// CHECK: "graph.attention"(%arg0, %arg0, %arg0) {right = 0 : i64, scale = 5.0{{.*}}}

func.func @main(%arg0: tensor<1x2x2048x4xf16>) -> tensor<1x2x2048x4xf16> {
  %0 = "graph.constant"() {bytes = "0000803F"} : () -> tensor<f32>
  %1 = "graph.constant"() {bytes = "0000000000000000"} : () -> tensor<i64>
  %2 = "graph.constant"() {bytes = "00000000"} : () -> tensor<f32>
  %3 = "graph.constant"() {bytes = "FFFB"} : () -> tensor<f16>
  %4 = "graph.constant"() {bytes = "0000"} : () -> tensor<f16>
  %5 = "graph.broadcast"(%0) {shape = [2048, 2048]} : (tensor<f32>) -> tensor<2048x2048xf32>
  %6 = "graph.trilu"(%5, %1) {upper = false} : (tensor<2048x2048xf32>, tensor<i64>) -> tensor<2048x2048xf32>
  %7 = "graph.elementwise"(%6, %2) {fn = "eq"} : (tensor<2048x2048xf32>, tensor<f32>) -> tensor<2048x2048xi1>
  %8 = "graph.elementwise"(%7, %3, %4) {fn = "where"} : (tensor<2048x2048xi1>, tensor<f16>, tensor<f16>) -> tensor<2048x2048xf16>
  %9 = "graph.attention"(%arg0, %arg0, %arg0, %8) {scale = 0.5 : f64} : (tensor<1x2x2048x4xf16>, tensor<1x2x2048x4xf16>, tensor<1x2x2048x4xf16>, tensor<2048x2048xf16>) -> tensor<1x2x2048x4xf16>
  return %9 : tensor<1x2x2048x4xf16>
}
