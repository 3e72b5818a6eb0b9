// graph, one function per element: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @elementwise(
// CHECK: "graph.elementwise"(%{{.*}}) {fn = "add"}
// CHECK: "graph.elementwise"(%{{.*}}) {fn = "elu", params = [1.000000e+00]}
func.func @elementwise(%a: tensor<2x3xf32>, %b: tensor<3xf32>) {
  %y = "graph.elementwise"(%a, %b) {fn = "add"} : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %z = "graph.elementwise"(%y) {fn = "elu", params = [1.0]} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return
}

// CHECK-LABEL: func.func @cast(
// CHECK: "graph.cast"(%{{.*}}) {to = i32}
func.func @cast(%x: tensor<4xf32>) {
  %y = "graph.cast"(%x) {to = i32} : (tensor<4xf32>) -> tensor<4xi32>
  return
}

// CHECK-LABEL: func.func @bitcast(
// CHECK: "graph.bitcast"(%{{.*}}) {to = i32}
func.func @bitcast(%x: tensor<4xf32>) {
  %y = "graph.bitcast"(%x) {to = i32} : (tensor<4xf32>) -> tensor<4xi32>
  return
}
