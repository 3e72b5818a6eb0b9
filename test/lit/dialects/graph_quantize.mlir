// graph, quantize: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @dequantize(
// CHECK: "graph.dequantize"(%{{.*}}) {axis = 0 : i64, to = f32}
func.func @dequantize(%x: tensor<4x8xui8>, %s: tensor<4xf32>, %z: tensor<4xui8>) {
  %y = "graph.dequantize"(%x, %s, %z) {axis = 0, to = f32} : (tensor<4x8xui8>, tensor<4xf32>, tensor<4xui8>) -> tensor<4x8xf32>
  return
}

// CHECK-LABEL: func.func @quantize(
// CHECK: "graph.quantize"(%{{.*}}) {precision = f32}
func.func @quantize(%x: tensor<4x8xf32>, %s: tensor<f32>, %z: tensor<ui8>) {
  %y = "graph.quantize"(%x, %s, %z) {precision = f32} : (tensor<4x8xf32>, tensor<f32>, tensor<ui8>) -> tensor<4x8xui8>
  return
}

// CHECK-LABEL: func.func @unpack(
// CHECK: "graph.unpack"(%{{.*}}) {to = ui4}
func.func @unpack(%x: tensor<3x8xui8>) {
  %y = "graph.unpack"(%x) {to = ui4} : (tensor<3x8xui8>) -> tensor<3x16xui4>
  return
}
