// graph, shapes and places of elements: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @reshape(
// CHECK: "graph.reshape"(%{{.*}}) {shape = [6]}
func.func @reshape(%x: tensor<2x3xf32>) {
  %y = "graph.reshape"(%x) {shape = [6]} : (tensor<2x3xf32>) -> tensor<6xf32>
  return
}

// CHECK-LABEL: func.func @transpose(
// CHECK: "graph.transpose"(%{{.*}}) {perm = [1, 0]}
func.func @transpose(%x: tensor<2x3xf32>) {
  %y = "graph.transpose"(%x) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>
  return
}

// CHECK-LABEL: func.func @slice(
// CHECK: "graph.slice"(%{{.*}}) {sizes = [2, 4], starts = [1, 3], steps = [1, -1]}
func.func @slice(%x: tensor<5x4xf32>) {
  %y = "graph.slice"(%x) {starts = [1, 3], sizes = [2, 4], steps = [1, -1]} : (tensor<5x4xf32>) -> tensor<2x4xf32>
  return
}

// CHECK-LABEL: func.func @concat(
// CHECK: "graph.concat"(%{{.*}}) {axis = 0 : i64}
func.func @concat(%a: tensor<2x3xf32>, %b: tensor<4x3xf32>) {
  %y = "graph.concat"(%a, %b) {axis = 0} : (tensor<2x3xf32>, tensor<4x3xf32>) -> tensor<6x3xf32>
  return
}

// CHECK-LABEL: func.func @pad(
// CHECK: "graph.pad"(%{{.*}}) {high = [0, 2], low = [0, 1], mode = "edge"}
func.func @pad(%x: tensor<2x3xf32>) {
  %y = "graph.pad"(%x) {low = [0, 1], high = [0, 2], mode = "edge"} : (tensor<2x3xf32>) -> tensor<2x6xf32>
  return
}

// CHECK-LABEL: func.func @broadcast(
// CHECK: "graph.broadcast"(%{{.*}}) {shape = [2, 3]}
func.func @broadcast(%x: tensor<3xf32>) {
  %y = "graph.broadcast"(%x) {shape = [2, 3]} : (tensor<3xf32>) -> tensor<2x3xf32>
  return
}

// CHECK-LABEL: func.func @gather(
// CHECK: "graph.gather"(%{{.*}}) {axis = 0 : i64}
func.func @gather(%x: tensor<10x4xf32>, %i: tensor<2x3xi64>) {
  %y = "graph.gather"(%x, %i) {axis = 0} : (tensor<10x4xf32>, tensor<2x3xi64>) -> tensor<2x3x4xf32>
  return
}

// CHECK-LABEL: func.func @iota(
// CHECK: "graph.iota"() {dim = 1 : i64, shape = [2, 3], to = i64}
func.func @iota() {
  %y = "graph.iota"() {shape = [2, 3], dim = 1, to = i64} : () -> tensor<2x3xi64>
  return
}
