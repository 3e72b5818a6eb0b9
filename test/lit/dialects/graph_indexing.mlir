// graph, data-dependent places: the example of each op reads and prints the same through text and bytecode.
// RUN: %roundtrip

// CHECK-LABEL: func.func @gather_elements(
// CHECK: "graph.gather_elements"(%{{.*}}) {axis = 1 : i64}
func.func @gather_elements(%x: tensor<3x4xf32>, %i: tensor<2x5xi64>) {
  %y = "graph.gather_elements"(%x, %i) {axis = 1} : (tensor<3x4xf32>, tensor<2x5xi64>) -> tensor<2x5xf32>
  return
}

// CHECK-LABEL: func.func @gather_nd(
// CHECK: "graph.gather_nd"(%{{.*}}) {batch_dims = 1 : i64}
func.func @gather_nd(%x: tensor<2x3x4xf32>, %i: tensor<2x5x1xi64>) {
  %y = "graph.gather_nd"(%x, %i) {batch_dims = 1} : (tensor<2x3x4xf32>, tensor<2x5x1xi64>) -> tensor<2x5x4xf32>
  return
}

// CHECK-LABEL: func.func @scatter_elements(
// CHECK: "graph.scatter_elements"(%{{.*}}) {axis = 0 : i64, reduction = "add"}
func.func @scatter_elements(%x: tensor<3x4xf32>, %i: tensor<2x4xi64>, %u: tensor<2x4xf32>) {
  %y = "graph.scatter_elements"(%x, %i, %u) {axis = 0, reduction = "add"}
    : (tensor<3x4xf32>, tensor<2x4xi64>, tensor<2x4xf32>) -> tensor<3x4xf32>
  return
}

// CHECK-LABEL: func.func @scatter_nd(
// CHECK: "graph.scatter_nd"(%{{.*}})
func.func @scatter_nd(%x: tensor<8x4xf32>, %i: tensor<3x1xi64>, %u: tensor<3x4xf32>) {
  %y = "graph.scatter_nd"(%x, %i, %u) : (tensor<8x4xf32>, tensor<3x1xi64>, tensor<3x4xf32>) -> tensor<8x4xf32>
  return
}

// CHECK-LABEL: func.func @update(
// CHECK: "graph.update"(%{{.*}}) {axis = 2 : i64, circular = true}
func.func @update(%cache: tensor<2x4x16x8xf32>, %new: tensor<2x4x1x8xf32>, %starts: tensor<2xi64>) {
  %y = "graph.update"(%cache, %new, %starts) {axis = 2, circular = true}
    : (tensor<2x4x16x8xf32>, tensor<2x4x1x8xf32>, tensor<2xi64>) -> tensor<2x4x16x8xf32>
  return
}

// CHECK-LABEL: func.func @trilu(
// CHECK: "graph.trilu"(%{{.*}}) {upper = false}
func.func @trilu(%x: tensor<2x3x4xf32>, %k: tensor<i64>) {
  %y = "graph.trilu"(%x, %k) {upper = false} : (tensor<2x3x4xf32>, tensor<i64>) -> tensor<2x3x4xf32>
  return
}

// CHECK-LABEL: func.func @reverse_sequence(
// CHECK: "graph.reverse_sequence"(%{{.*}}) {batch = 1 : i64, time = 0 : i64}
func.func @reverse_sequence(%x: tensor<4x2xf32>, %lens: tensor<2xi64>) {
  %y = "graph.reverse_sequence"(%x, %lens) {time = 0, batch = 1} : (tensor<4x2xf32>, tensor<2xi64>) -> tensor<4x2xf32>
  return
}

// CHECK-LABEL: func.func @nonzero(
// CHECK: "graph.nonzero"(%{{.*}})
func.func @nonzero(%x: tensor<2x3xf32>) {
  %y, %n = "graph.nonzero"(%x) : (tensor<2x3xf32>) -> (tensor<2x6xi64>, tensor<i64>)
  return
}

// CHECK-LABEL: func.func @compress(
// CHECK: "graph.compress"(%{{.*}})
func.func @compress(%x: tensor<6x4xf32>, %c: tensor<6xi1>) {
  %y, %n = "graph.compress"(%x, %c) : (tensor<6x4xf32>, tensor<6xi1>) -> (tensor<6x4xf32>, tensor<i64>)
  return
}
