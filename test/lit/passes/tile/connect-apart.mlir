// connect: what it must leave apart, because the merge is not legal or does not pay.
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v4 --lower-graph-to-tile --fold-views --mlc-dce --connect | filecheck %s

// Each block of the second convolution would compute the first one around its own tile again.
// CHECK-LABEL: func.func @halo
// CHECK: %[[A:.*]] = "tile.graph"(%arg0, %arg1)
// CHECK: "tile.graph"(%[[A]], %arg2)
// CHECK: return
func.func @halo(%x: tensor<1x64x66x66xf32>, %w: tensor<64x64x3x3xf32>, %v: tensor<64x64x3x3xf32>) -> tensor<1x64x62x62xf32> {
  %0 = "graph.conv"(%x, %w) {strides = [1, 1], dilations = [1, 1]} : (tensor<1x64x66x66xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x64x64xf32>
  %1 = "graph.conv"(%0, %v) {strides = [1, 1], dilations = [1, 1]} : (tensor<1x64x64x64xf32>, tensor<64x64x3x3xf32>) -> tensor<1x64x62x62xf32>
  return %1 : tensor<1x64x62x62xf32>
}

// -----

// Sinks of two shapes have no common grid.
// CHECK-LABEL: func.func @sinks
// CHECK: %[[A:.*]]:2 = "tile.graph"(%arg0)
// CHECK: "tile.yield"(%{{.*}}, %{{.*}}) : (tensor<64x128xf32>, tensor<64xf32>)
// CHECK: "tile.graph"(%[[A]]#0)
// CHECK: "tile.yield"(%{{.*}}) : (tensor<128xf32>)
func.func @sinks(%x: tensor<64x128xf32>) -> (tensor<64xf32>, tensor<128xf32>) {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<64x128xf32>) -> tensor<64x128xf32>
  %1 = "graph.reduce"(%0) {kind = "sum", axes = [1]} : (tensor<64x128xf32>) -> tensor<64xf32>
  %2 = "graph.reduce"(%0) {kind = "sum", axes = [0]} : (tensor<64x128xf32>) -> tensor<128xf32>
  return %1, %2 : tensor<64xf32>, tensor<128xf32>
}

// -----

// The consumer needs a value that an opaque kernel makes of the producer: merged, the two would wait for each other.
// CHECK-LABEL: func.func @path_around
// CHECK: %[[A:.*]] = "tile.graph"(%arg0)
// CHECK: %[[D:.*]] = "tile.graph"(%[[A]])
// CHECK: "tile.graph"(%[[A]], %[[D]])
func.func @path_around(%x: tensor<2x8x8xf32>) -> tensor<2x8x8xf32> {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<2x8x8xf32>) -> tensor<2x8x8xf32>
  %1 = "graph.determinant"(%0) : (tensor<2x8x8xf32>) -> tensor<2xf32>
  %2 = "graph.reshape"(%1) {shape = [2, 1, 1]} : (tensor<2xf32>) -> tensor<2x1x1xf32>
  %3 = "graph.elementwise"(%0, %2) {fn = "mul"} : (tensor<2x8x8xf32>, tensor<2x1x1xf32>) -> tensor<2x8x8xf32>
  return %3 : tensor<2x8x8xf32>
}

// -----

// Columns then rows: every block would hold the whole matrix.
// CHECK-LABEL: func.func @scratch
// CHECK: %[[A:.*]]:2 = "tile.graph"(%arg0)
// CHECK: "tile.graph"(%[[A]]#0, %[[A]]#1)
func.func @scratch(%x: tensor<2048x2048xf32>) -> tensor<2048x2048xf32> {
  %0 = "graph.softmax"(%x) {axis = 0} : (tensor<2048x2048xf32>) -> tensor<2048x2048xf32>
  %1 = "graph.softmax"(%0) {axis = 1} : (tensor<2048x2048xf32>) -> tensor<2048x2048xf32>
  return %1 : tensor<2048x2048xf32>
}

// -----

// The diagonal of a value that leaves the kernel: blocks of the diagonal would make a part of that value only.
// CHECK-LABEL: func.func @diagonal
// CHECK: %[[A:.*]] = "tile.graph"(%arg0)
// CHECK: "tile.graph"(%[[A]])
func.func @diagonal(%x: tensor<512x512xf32>) -> (tensor<512x512xf32>, tensor<512xf32>) {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<512x512xf32>) -> tensor<512x512xf32>
  %1 = "graph.einsum"(%0) {equation = "ii->i"} : (tensor<512x512xf32>) -> tensor<512xf32>
  return %0, %1 : tensor<512x512xf32>, tensor<512xf32>
}

// -----

// Data-dependent reads need the whole tensor, so its producer stays a kernel of its own.
// CHECK-LABEL: func.func @gather
// CHECK: %[[A:.*]] = "tile.graph"(%arg0)
// CHECK: "tile.graph"({{.*}}%[[A]]{{.*}})
func.func @gather(%x: tensor<64x16xf32>, %i: tensor<8xi64>) -> tensor<8x16xf32> {
  %0 = "graph.elementwise"(%x) {fn = "tanh"} : (tensor<64x16xf32>) -> tensor<64x16xf32>
  %1 = "graph.gather"(%0, %i) {axis = 0} : (tensor<64x16xf32>, tensor<8xi64>) -> tensor<8x16xf32>
  return %1 : tensor<8x16xf32>
}

// -----

// What weights alone decide is evaluated at compile time: it never joins what inputs decide.
// CHECK-LABEL: func.func @constant_part
// CHECK: %[[W:.*]] = "tile.weight"
// CHECK: %[[E:.*]] = "tile.graph"(%[[W]])
// CHECK: "tile.graph"(%arg0, %[[E]])
func.func @constant_part(%x: tensor<64xf32>) -> tensor<64xf32> {
  %w = "graph.weight"() {key = "w"} : () -> tensor<64xf32>
  %0 = "graph.elementwise"(%w) {fn = "exp"} : (tensor<64xf32>) -> tensor<64xf32>
  %1 = "graph.elementwise"(%x, %0) {fn = "mul"} : (tensor<64xf32>, tensor<64xf32>) -> tensor<64xf32>
  return %1 : tensor<64xf32>
}
