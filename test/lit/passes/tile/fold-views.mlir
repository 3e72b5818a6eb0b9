// fold-views: a reader goes through a view that splits dimensions, or adds unit ones; one that joins dimensions is not affine and stays.
// RUN: %mlc-opt %s --split-input-file --lower-graph-to-tile --fold-views --mlc-dce | filecheck %s

// CHECK: #[[SPLIT:.*]] = affine_map<(d0, d1, d2, d3) -> (d0, d2 * 4 + d3)>
// CHECK-LABEL: func.func @split(
// CHECK-SAME: %[[X:.*]]: tensor<2x12xf32>)
// CHECK-NOT: tile.view
// CHECK: "tile.graph"(%[[X]])
// CHECK: linalg.generic {indexing_maps = [#[[SPLIT]], #{{.*}}]
func.func @split(%x: tensor<2x12xf32>) -> tensor<2x1x3x4xf32> {
  %v = "graph.reshape"(%x) {shape = [2, 1, 3, 4]} : (tensor<2x12xf32>) -> tensor<2x1x3x4xf32>
  %y = "graph.elementwise"(%v) {fn = "neg"} : (tensor<2x1x3x4xf32>) -> tensor<2x1x3x4xf32>
  return %y : tensor<2x1x3x4xf32>
}

// -----

// CHECK-LABEL: func.func @join(
// CHECK: %[[V:.*]] = "tile.view"
// CHECK: "tile.graph"(%[[V]])
func.func @join(%x: tensor<4x6xf32>) -> tensor<2x12xf32> {
  %v = "graph.reshape"(%x) {shape = [2, 12]} : (tensor<4x6xf32>) -> tensor<2x12xf32>
  %y = "graph.elementwise"(%v) {fn = "neg"} : (tensor<2x12xf32>) -> tensor<2x12xf32>
  return %y : tensor<2x12xf32>
}
