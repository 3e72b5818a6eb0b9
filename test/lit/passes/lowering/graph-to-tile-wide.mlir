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
