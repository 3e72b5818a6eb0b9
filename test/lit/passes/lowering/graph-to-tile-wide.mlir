// lower-graph-to-tile for machines of many threads: scans and sorts are wide loop nests; a CPU has sequential code, row by row.
// RUN: %mlc-opt %s --split-input-file --target=cuda:sm_90a --lower-graph-to-tile | filecheck %s
// RUN: %mlc-opt %s --split-input-file --target=cpu:x86-64-v3 --lower-graph-to-tile | filecheck %s --check-prefix=CPU

// The sums of chunks, all of their pairs, and in each chunk those before an element.
// CHECK-LABEL: func.func @scan
// CHECK: tensor<8x6249x1xf32>
// CHECK-NOT: scf.
// CHECK: "tile.yield"(%{{.*}}) : (tensor<8x100000x1xf32>)
// CPU-LABEL: func.func @scan
// CPU: scf.forall (%{{.*}}, %{{.*}}) in (8, 1)
func.func @scan(%x: tensor<8x100000xf32>) -> tensor<8x100000xf32> {
  %y = "graph.scan"(%x) {kind = "sum", axis = 1} : (tensor<8x100000xf32>) -> tensor<8x100000xf32>
  return %y : tensor<8x100000xf32>
}

// -----

// Runs of 32, then merges of pairs; no run is longer than the 50 that are wanted.
// CHECK-LABEL: func.func @topk
// CHECK-NOT: scf.
// CHECK: "tile.yield"(%{{.*}}) : (tensor<4x7x32xi32>)
// CHECK: "tile.yield"(%{{.*}}, %{{.*}}) : (tensor<4x4x50xi32>, tensor<4x4x50xi32>)
// CHECK: "tile.yield"(%{{.*}}, %{{.*}}) : (tensor<4x2x50xi32>, tensor<4x2x50xi32>)
// CHECK: "tile.yield"(%{{.*}}, %{{.*}}) : (tensor<4x1x50xi32>, tensor<4x1x50xi32>)
// CPU-LABEL: func.func @topk
// CPU: scf.forall (%{{.*}}) in (4)
func.func @topk(%x: tensor<4x200xf16>) -> (tensor<4x50xf16>, tensor<4x50xi64>) {
  %v, %i = "graph.topk"(%x) {k = 50, axis = 1} : (tensor<4x200xf16>) -> (tensor<4x50xf16>, tensor<4x50xi64>)
  return %v, %i : tensor<4x50xf16>, tensor<4x50xi64>
}

// -----

// The last update to each row, among all three; then the row, from there or as it was.
// CHECK-LABEL: func.func @scatter
// CHECK-NOT: scf.
// CHECK: arith.maxsi
// CHECK: "tile.yield"(%{{.*}}) : (tensor<1x8x1xi32>)
// CHECK: tensor.extract
// CHECK: "tile.yield"(%{{.*}}) : (tensor<1x8x4xf32>)
// CPU-LABEL: func.func @scatter
// CPU: scf.forall
func.func @scatter(%x: tensor<8x4xf32>, %i: tensor<3x1xi64>, %u: tensor<3x4xf32>) -> tensor<8x4xf32> {
  %y = "graph.scatter_nd"(%x, %i, %u) : (tensor<8x4xf32>, tensor<3x1xi64>, tensor<3x4xf32>) -> tensor<8x4xf32>
  return %y : tensor<8x4xf32>
}

// -----

// Ranks, then bisection.
// CHECK-LABEL: func.func @nonzero
// CHECK-NOT: scf.
// CHECK: "tile.yield"(%{{.*}}) : (tensor<1x40x1xi32>)
// CHECK: "tile.yield"(%{{.*}}) : (tensor<40xi32>)
// CHECK: "tile.yield"(%{{.*}}) : (tensor<2x40xi64>)
// CPU-LABEL: func.func @nonzero
// CPU: scf.for
func.func @nonzero(%x: tensor<5x8xf32>) -> (tensor<2x40xi64>, tensor<i64>) {
  %y, %n = "graph.nonzero"(%x) : (tensor<5x8xf32>) -> (tensor<2x40xi64>, tensor<i64>)
  return %y, %n : tensor<2x40xi64>, tensor<i64>
}
