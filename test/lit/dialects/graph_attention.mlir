// graph, attention and its position embedding: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @attention(
// CHECK: "graph.attention"(%{{.*}}) {right = 0 : i64, scale = 1.250000e-01 : f64}
func.func @attention(%q: tensor<1x8x16x64xf32>, %k: tensor<1x2x16x64xf32>, %v: tensor<1x2x16x64xf32>) {
  %y = "graph.attention"(%q, %k, %v) {scale = 0.125, right = 0}
    : (tensor<1x8x16x64xf32>, tensor<1x2x16x64xf32>, tensor<1x2x16x64xf32>) -> tensor<1x8x16x64xf32>
  return
}

// CHECK-LABEL: func.func @rotary(
// CHECK: "graph.rotary"(%{{.*}})
func.func @rotary(%x: tensor<1x8x16x64xf32>, %c: tensor<1x1x16x32xf32>, %s: tensor<1x1x16x32xf32>) {
  %y = "graph.rotary"(%x, %c, %s)
    : (tensor<1x8x16x64xf32>, tensor<1x1x16x32xf32>, tensor<1x1x16x32xf32>) -> tensor<1x8x16x64xf32>
  return
}
