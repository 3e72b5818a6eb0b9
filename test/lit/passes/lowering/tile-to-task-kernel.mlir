// lower-tile-to-task: what a kernel becomes for forced sizes and levels: clamped offsets, block buffers, mma, inlined readers.
// RUN: %mlc-opt %s --split-input-file --lower-tile-to-task | filecheck %s

// 37 rows in tiles of 8: the last tile is moved back inside, so every tile is whole.
// CHECK-DAG: #[[ROW:.*]] = affine_map<(d0, d1, d2) -> (d0 + d2, d1)>
// CHECK: "task.kernel"
// CHECK-NEXT: ^bb0(%[[X:.*]]: memref<37x4xf32>, %[[Y:.*]]: memref<37x4xf32>, %[[B:.*]]: index):
// CHECK: %[[T:.*]] = arith.constant 8 : index
// CHECK: %[[S:.*]] = arith.muli %[[B]], %[[T]]
// CHECK: %[[L:.*]] = arith.constant 29 : index
// CHECK: %[[O:.*]] = arith.minsi %[[S]], %[[L]]
// CHECK: "task.load"(%[[X]], %{{.*}}, %{{.*}}, %[[O]]) {map = #[[ROW]]}
// CHECK: "task.store"(%{{.*}}, %[[Y]], %{{.*}}, %{{.*}}, %[[O]]) {map = #[[ROW]]}
// CHECK: {extents = [8, 4]}
// CHECK: {grid = [5], inputs = 1 : i64, sym_name = "kernel_0"}
func.func @ragged(%x: tensor<37x4xf32>) -> tensor<37x4xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<37x4xf32>):
    %e = tensor.empty() : tensor<37x4xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
           ins(%a : tensor<37x4xf32>) outs(%e : tensor<37x4xf32>) {
    ^bb1(%v: f32, %out: f32):
      %n = arith.negf %v : f32
      linalg.yield %n : f32
    } -> tensor<37x4xf32>
    "tile.yield"(%y) : (tensor<37x4xf32>) -> ()
  }) {tile.sizes = [8, 4]} : (tensor<37x4xf32>) -> tensor<37x4xf32>
  return %r : tensor<37x4xf32>
}

// -----

// Tiles that divide need no clamp.
// CHECK: "task.kernel"
// CHECK: arith.muli
// CHECK-NOT: arith.minsi
// CHECK: {grid = [5], inputs = 1 : i64, sym_name = "kernel_0"}
func.func @even(%x: tensor<40xf32>) -> tensor<40xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<40xf32>):
    %e = tensor.empty() : tensor<40xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
           ins(%a : tensor<40xf32>) outs(%e : tensor<40xf32>) {
    ^bb1(%v: f32, %out: f32):
      linalg.yield %v : f32
    } -> tensor<40xf32>
    "tile.yield"(%y) : (tensor<40xf32>) -> ()
  }) {tile.sizes = [8]} : (tensor<40xf32>) -> tensor<40xf32>
  return %r : tensor<40xf32>
}

// -----

// A strided read takes 2 * 8 - 1 elements of the producer's result: that is its block buffer, addressed from its own start.
// CHECK-DAG: #[[WRITE:.*]] = affine_map<(d0) -> (d0)>
// CHECK-DAG: #[[FROM:.*]] = affine_map<(d0, d1) -> (d0 + d1 * 2 + 1)>
// CHECK-DAG: #[[READ:.*]] = affine_map<(d0) -> (d0 * 2)>
// CHECK: "task.alloc"() {level = "shared"} : () -> memref<15xf32>
// CHECK: "task.load"(%{{.*}}) {map = #[[FROM]]} : (memref<65xf32>, index, index)
// CHECK: "task.store"(%{{.*}}) {map = #[[WRITE]]} : (f32, memref<15xf32>, index)
// CHECK: {extents = [15]}
// CHECK: "task.load"(%{{.*}}) {map = #[[READ]]} : (memref<15xf32>, index)
// CHECK: {extents = [8]}
func.func @block_buffer(%x: tensor<65xf32>) -> tensor<32xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<65xf32>):
    %e = tensor.empty() : tensor<65xf32>
    %p = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
           ins(%a : tensor<65xf32>) outs(%e : tensor<65xf32>) attrs = {tile.level = "shared"} {
    ^bb1(%v: f32, %out: f32):
      %n = math.tanh %v : f32
      linalg.yield %n : f32
    } -> tensor<65xf32>
    %f = tensor.empty() : tensor<32xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i * 2 + 1)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
           ins(%p : tensor<65xf32>) outs(%f : tensor<32xf32>) attrs = {tile.level = "global"} {
    ^bb1(%v: f32, %out: f32):
      linalg.yield %v : f32
    } -> tensor<32xf32>
    "tile.yield"(%y) : (tensor<32xf32>) -> ()
  }) {tile.sizes = [8]} : (tensor<65xf32>) -> tensor<32xf32>
  return %r : tensor<32xf32>
}

// -----

// At level register the producer is computed inside its reader: no buffer.
// CHECK: "task.kernel"
// CHECK-NOT: task.alloc
// CHECK: %[[V:.*]] = "task.load"
// CHECK: %[[T:.*]] = math.tanh %[[V]]
// CHECK: %[[N:.*]] = arith.negf %[[T]]
// CHECK: "task.store"(%[[N]],
func.func @inlined(%x: tensor<64xf32>) -> tensor<64xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<64xf32>):
    %e = tensor.empty() : tensor<64xf32>
    %p = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
           ins(%a : tensor<64xf32>) outs(%e : tensor<64xf32>) attrs = {tile.level = "register"} {
    ^bb1(%v: f32, %out: f32):
      %n = math.tanh %v : f32
      linalg.yield %n : f32
    } -> tensor<64xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
           ins(%p : tensor<64xf32>) outs(%e : tensor<64xf32>) attrs = {tile.level = "global"} {
    ^bb1(%v: f32, %out: f32):
      %n = arith.negf %v : f32
      linalg.yield %n : f32
    } -> tensor<64xf32>
    "tile.yield"(%y) : (tensor<64xf32>) -> ()
  }) {tile.sizes = [16]} : (tensor<64xf32>) -> tensor<64xf32>
  return %r : tensor<64xf32>
}

// -----

// A sum of products of two buffers from zero is a task.mma; one result leaves through a block buffer, the root writes the output.
// CHECK-DAG: #[[A:.*]] = affine_map<(d0, d1, d2, d3) -> (d0 + d3, d2)>
// CHECK-DAG: #[[B:.*]] = affine_map<(d0, d1, d2, d3) -> (d2, d1)>
// CHECK-DAG: #[[C:.*]] = affine_map<(d0, d1, d2, d3) -> (d0 + d3, d1)>
// CHECK: "task.mma"(%{{.*}}) {atom = "fma", extents = [4, 32, 8], maps = [#[[A]], #[[B]], #[[C]]], reductions = 1 : i64}
// CHECK-SAME: (memref<16x8xf32>, memref<8x32xf32>, memref<16x32xf32>, index)
// CHECK-NOT: task.foreach
// CHECK: "task.end"
func.func @mma(%x: tensor<16x8xf32>, %w: tensor<8x32xf32>) -> tensor<16x32xf32> {
  %r = "tile.graph"(%x, %w) ({
  ^bb0(%a: tensor<16x8xf32>, %b: tensor<8x32xf32>):
    %zero = arith.constant 0.0 : f32
    %e = tensor.empty() : tensor<16x32xf32>
    %f = linalg.fill ins(%zero : f32) outs(%e : tensor<16x32xf32>) -> tensor<16x32xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>],
                         iterator_types = ["parallel", "parallel", "reduction"]}
           ins(%a, %b : tensor<16x8xf32>, tensor<8x32xf32>) outs(%f : tensor<16x32xf32>) {
    ^bb1(%u: f32, %v: f32, %acc: f32):
      %p = arith.mulf %u, %v : f32
      %s = arith.addf %acc, %p : f32
      linalg.yield %s : f32
    } -> tensor<16x32xf32>
    "tile.yield"(%y) : (tensor<16x32xf32>) -> ()
  }) {tile.sizes = [4, 32]} : (tensor<16x8xf32>, tensor<8x32xf32>) -> tensor<16x32xf32>
  return %r : tensor<16x32xf32>
}

// -----

// A maximum is a task.reduce that says how partial results join.
// CHECK: "task.foreach"
// CHECK: "task.reduce"
// CHECK: {combine = ["maximumf"], extents = [100]} : (f32) -> f32
// CHECK: {extents = [4]}
func.func @reduce(%x: tensor<16x100xf32>) -> tensor<16xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<16x100xf32>):
    %low = arith.constant 0xFF800000 : f32
    %e = tensor.empty() : tensor<16xf32>
    %f = linalg.fill ins(%low : f32) outs(%e : tensor<16xf32>) -> tensor<16xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i, k) -> (i, k)>, affine_map<(i, k) -> (i)>], iterator_types = ["parallel", "reduction"]}
           ins(%a : tensor<16x100xf32>) outs(%f : tensor<16xf32>) {
    ^bb1(%v: f32, %acc: f32):
      %m = arith.maximumf %acc, %v : f32
      linalg.yield %m : f32
    } -> tensor<16xf32>
    "tile.yield"(%y) : (tensor<16xf32>) -> ()
  }) {tile.sizes = [4]} : (tensor<16x100xf32>) -> tensor<16xf32>
  return %r : tensor<16xf32>
}

// -----

// Nothing to compute: the kernel is empty.
// CHECK: "task.kernel"
// CHECK-NOT: task.foreach
// CHECK: "task.end"
// CHECK: {grid = [], inputs = 1 : i64, sym_name = "kernel_0"}
func.func @empty(%x: tensor<0x4xf32>) -> tensor<0x4xf32> {
  %r = "tile.graph"(%x) ({
  ^bb0(%a: tensor<0x4xf32>):
    %e = tensor.empty() : tensor<0x4xf32>
    %y = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
           ins(%a : tensor<0x4xf32>) outs(%e : tensor<0x4xf32>) {
    ^bb1(%v: f32, %out: f32):
      linalg.yield %v : f32
    } -> tensor<0x4xf32>
    "tile.yield"(%y) : (tensor<0x4xf32>) -> ()
  }) {tile.sizes = [1, 4]} : (tensor<0x4xf32>) -> tensor<0x4xf32>
  return %r : tensor<0x4xf32>
}
