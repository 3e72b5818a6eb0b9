// graph, normalisation over trailing dimensions: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @layer_norm(
// CHECK: "graph.layer_norm"(%{{.*}}) {axis = 2 : i64, eps = 1.000000e-05 : f64}
func.func @layer_norm(%x: tensor<2x8x64xf32>) {
  %y = "graph.layer_norm"(%x) {axis = 2, eps = 1.0e-05} : (tensor<2x8x64xf32>) -> tensor<2x8x64xf32>
  return
}

// CHECK-LABEL: func.func @rms_norm(
// CHECK: "graph.rms_norm"(%{{.*}}) {axis = 2 : i64, eps = 9.9999999999999995E-7 : f64}
func.func @rms_norm(%x: tensor<2x8x64xf32>) {
  %y = "graph.rms_norm"(%x) {axis = 2, eps = 1.0e-06} : (tensor<2x8x64xf32>) -> tensor<2x8x64xf32>
  return
}
