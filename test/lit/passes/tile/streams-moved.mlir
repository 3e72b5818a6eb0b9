// A streamed softmax reads its factors where a product of all heads left them, and writes its result where the next product reads it: moving
// them costs nothing, so no kernel does.
// RUN: %mlc-opt %s --target=cuda:sm_90a --lower-graph-to-tile --mlc-dce --tile-pipeline | filecheck %s
// RUN: %mlc-opt %s --target=cuda:sm_90a --lower-graph-to-tile --mlc-dce --tile-pipeline --task-pipeline --lower-task-to-gpu \
// RUN:   | filecheck %s --check-prefix GPU

// CHECK-LABEL: func.func @heads
// CHECK-COUNT-1: "tile.graph"
// CHECK: tile.level = "register"
// CHECK: tile.level = "stream"
// CHECK: linalg.generic {{.*}} outs(%{{.*}} : tensor<64x128x12x64xf16>) attrs =  {tile.level = "stream"}
// CHECK: {tile.sizes = [1, 64, 1, 64]}
// CHECK-NOT: "tile.graph"

// GPU: task.tensormaps = [{argument = 2 : i64, box = [1, 64, 64], buffer = 0 : i64, dtype = "f16", shape = [64, 128, 2304]
// GPU-SAME: {argument = 3 : i64, box = [1, 128, 64], buffer = 0 : i64, dtype = "f16", shape = [64, 128, 2304]
func.func @heads(%packed: tensor<64x128x2304xf16>) -> tensor<64x128x12x64xf16> {
  %0 = "graph.slice"(%packed) {sizes = [64, 128, 768], starts = [0, 0, 0], steps = [1, 1, 1]} : (tensor<64x128x2304xf16>) -> tensor<64x128x768xf16>
  %1 = "graph.slice"(%packed) {sizes = [64, 128, 768], starts = [0, 0, 768], steps = [1, 1, 1]} : (tensor<64x128x2304xf16>) -> tensor<64x128x768xf16>
  %2 = "graph.slice"(%packed) {sizes = [64, 128, 768], starts = [0, 0, 1536], steps = [1, 1, 1]} : (tensor<64x128x2304xf16>) -> tensor<64x128x768xf16>
  %3 = "graph.reshape"(%0) {shape = [64, 128, 12, 64]} : (tensor<64x128x768xf16>) -> tensor<64x128x12x64xf16>
  %4 = "graph.reshape"(%1) {shape = [64, 128, 12, 64]} : (tensor<64x128x768xf16>) -> tensor<64x128x12x64xf16>
  %5 = "graph.reshape"(%2) {shape = [64, 128, 12, 64]} : (tensor<64x128x768xf16>) -> tensor<64x128x12x64xf16>
  %q = "graph.transpose"(%3) {perm = [0, 2, 1, 3]} : (tensor<64x128x12x64xf16>) -> tensor<64x12x128x64xf16>
  %k = "graph.transpose"(%4) {perm = [0, 2, 1, 3]} : (tensor<64x128x12x64xf16>) -> tensor<64x12x128x64xf16>
  %v = "graph.transpose"(%5) {perm = [0, 2, 1, 3]} : (tensor<64x128x12x64xf16>) -> tensor<64x12x128x64xf16>
  %y = "graph.attention"(%q, %k, %v) {scale = 0.125} : (tensor<64x12x128x64xf16>, tensor<64x12x128x64xf16>, tensor<64x12x128x64xf16>) -> tensor<64x12x128x64xf16>
  %z = "graph.transpose"(%y) {perm = [0, 2, 1, 3]} : (tensor<64x12x128x64xf16>) -> tensor<64x128x12x64xf16>
  return %z : tensor<64x128x12x64xf16>
}
