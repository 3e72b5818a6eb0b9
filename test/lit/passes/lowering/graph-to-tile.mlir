// lower-graph-to-tile: each op becomes tile.graphs of canonical linalg on storage types; sequential ops become opaque ones.
// RUN: %mlc-opt %s --split-input-file --lower-graph-to-tile | filecheck %s

// CHECK-DAG: #[[A:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[B:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[C:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-LABEL: func.func @matmul
// CHECK: linalg.fill
// CHECK: indexing_maps = [#[[A]], #[[B]], #[[C]]], iterator_types = ["parallel", "parallel", "reduction"]
// CHECK: %[[M:.*]] = arith.mulf
// CHECK: arith.addf %{{.*}}, %[[M]]
// CHECK-NOT: graph.matmul
func.func @matmul(%x: tensor<8x16xf32>, %w: tensor<4x16xf32>) -> tensor<8x4xf32> {
  %0 = "graph.matmul"(%x, %w) {transpose_b = true} : (tensor<8x16xf32>, tensor<4x16xf32>) -> tensor<8x4xf32>
  return %0 : tensor<8x4xf32>
}

// -----

// Half precision accumulates in f32 and rounds once, in a kernel of its own.
// CHECK-LABEL: func.func @half
// CHECK: "tile.graph"
// CHECK: arith.extf %{{.*}} : f16 to f32
// CHECK: "tile.yield"(%{{.*}}) : (tensor<8x4xf32>)
// CHECK: "tile.graph"
// CHECK: arith.truncf %{{.*}} : f32 to f16
func.func @half(%x: tensor<8x16xf16>, %w: tensor<16x4xf16>) -> tensor<8x4xf16> {
  %0 = "graph.matmul"(%x, %w) : (tensor<8x16xf16>, tensor<16x4xf16>) -> tensor<8x4xf16>
  return %0 : tensor<8x4xf16>
}

// -----

// Maximum, power, sum, quotient: four kernels for connect to merge.
// CHECK-LABEL: func.func @softmax
// CHECK: arith.maximumf
// CHECK: "tile.yield"(%{{.*}}) : (tensor<4xf32>)
// CHECK: math.exp
// CHECK: "tile.yield"(%{{.*}}) : (tensor<4x10xf32>)
// CHECK: arith.addf
// CHECK: "tile.yield"(%{{.*}}) : (tensor<4xf32>)
// CHECK: arith.divf
// CHECK: "tile.yield"(%{{.*}}) : (tensor<4x10xf32>)
func.func @softmax(%x: tensor<4x10xf32>) -> tensor<4x10xf32> {
  %0 = "graph.softmax"(%x) {axis = 1} : (tensor<4x10xf32>) -> tensor<4x10xf32>
  return %0 : tensor<4x10xf32>
}

// -----

// Unsigned bytes are stored as i8; what they mean is in the operations.
// CHECK-LABEL: func.func @unsigned
// CHECK-SAME: (%{{.*}}: tensor<4xi8>) -> tensor<4xf32>
// CHECK: arith.uitofp
func.func @unsigned(%x: tensor<4xui8>) -> tensor<4xf32> {
  %0 = "graph.cast"(%x) {to = f32} : (tensor<4xui8>) -> tensor<4xf32>
  return %0 : tensor<4xf32>
}

// -----

// Floats of 8 bits are stored as codes, decoded and encoded by integer operations.
// CHECK-LABEL: func.func @float8
// CHECK-SAME: (%{{.*}}: tensor<4xi8>) -> tensor<4xi8>
// CHECK: ins(%{{.*}} : tensor<4xi8>) outs(%{{.*}} : tensor<4xi8>)
// CHECK-NOT: f8E
// CHECK: return
func.func @float8(%x: tensor<4xf8E4M3FN>) -> tensor<4xf8E5M2> {
  %0 = "graph.cast"(%x) {to = f8E5M2} : (tensor<4xf8E4M3FN>) -> tensor<4xf8E5M2>
  return %0 : tensor<4xf8E5M2>
}

// -----

// A reshape costs nothing.
// CHECK-LABEL: func.func @reshape
// CHECK: "tile.view"(%{{.*}}) : (tensor<2x3xf32>) -> tensor<6xf32>
// CHECK-NOT: tile.graph
// CHECK: return
func.func @reshape(%x: tensor<2x3xf32>) -> tensor<6xf32> {
  %0 = "graph.reshape"(%x) {shape = [6]} : (tensor<2x3xf32>) -> tensor<6xf32>
  return %0 : tensor<6xf32>
}

// -----

// A fold over no dimensions reads each element once, without an accumulator.
// CHECK-LABEL: func.func @no_axes
// CHECK-NOT: linalg.fill
// CHECK: iterator_types = ["parallel", "parallel"]
func.func @no_axes(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %0 = "graph.reduce"(%x) {kind = "sum_square", axes = []} : (tensor<2x3xf32>) -> tensor<2x3xf32>
  return %0 : tensor<2x3xf32>
}

// -----

// CHECK-LABEL: func.func @scatter
// CHECK: "tile.graph"
// CHECK: scf.for
// CHECK: tensor.insert
func.func @scatter(%x: tensor<3x4xf32>, %i: tensor<2x4xi64>, %u: tensor<2x4xf32>) -> tensor<3x4xf32> {
  %0 = "graph.scatter_elements"(%x, %i, %u) {axis = 0, reduction = "add"} : (tensor<3x4xf32>, tensor<2x4xi64>, tensor<2x4xf32>) -> tensor<3x4xf32>
  return %0 : tensor<3x4xf32>
}

// -----

// CHECK-LABEL: func.func @sort
// CHECK: "tile.graph"
// CHECK: scf.
func.func @sort(%x: tensor<3x8xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>) {
  %0:2 = "graph.topk"(%x) {k = 2, axis = 1} : (tensor<3x8xf32>) -> (tensor<3x2xf32>, tensor<3x2xi64>)
  return %0#0, %0#1 : tensor<3x2xf32>, tensor<3x2xi64>
}

// -----

// Control flow stays; its region arguments take storage types.
// CHECK-LABEL: func.func @flow
// CHECK: "flow.loop"
// CHECK-NEXT: ^bb0(%{{.*}}: tensor<i64>, %{{.*}}: tensor<4xi8>):
// CHECK: "flow.yield"(%{{.*}}) : (tensor<4xi8>)
func.func @flow(%x: tensor<4xui8>) -> tensor<4xui8> {
  %0 = "flow.loop"(%x) ({
  ^bb0(%i: tensor<i64>, %a: tensor<4xui8>):
    %1 = "graph.elementwise"(%a, %a) {fn = "add"} : (tensor<4xui8>, tensor<4xui8>) -> tensor<4xui8>
    "flow.yield"(%1) : (tensor<4xui8>) -> ()
  }) {trip = 3, carried = 1} : (tensor<4xui8>) -> tensor<4xui8>
  return %0 : tensor<4xui8>
}

// A fold of bools starts from a constant code: another op there would make the graph opaque.
// CHECK-LABEL: func.func @any
// CHECK: %[[NO:.*]] = arith.constant 0 : i8
// CHECK: linalg.fill ins(%[[NO]] : i8)
func.func @any(%x: tensor<2x8xi1>) -> tensor<2xi1> {
  %y = "graph.reduce"(%x) {kind = "max", axes = [1]} : (tensor<2x8xi1>) -> tensor<2xi1>
  return %y : tensor<2xi1>
}
