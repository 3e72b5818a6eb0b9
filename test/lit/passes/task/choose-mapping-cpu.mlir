// choose-mapping on CPUs: lanes of vectors as the workers of a map, register tiles of products; lower-task-to-scf does what stands there.
// RUN: %mlc-opt %s --target=cpu:x86-64-v4 --choose-mapping | filecheck %s
// RUN: %mlc-opt %s --target=cpu:x86-64-v3 --choose-mapping | filecheck %s --check-prefix=V3
// RUN: %mlc-opt %s --lower-task-to-scf | filecheck %s --check-prefix=PLAIN
// RUN: sed 's/extents = .37.}/extents = [37], map = #task.map<repeat(10, 1) * spatial(4, 1)>}/' %s | %mlc-opt --lower-task-to-scf | filecheck %s --check-prefix=FOUR

// A row of 37: two whole vectors of 16 lanes and one that ends with the row.
// CHECK: extents = [37], map = #task.map<repeat(3, 1) * spatial(16, 1)>
// CHECK: sym_name = "row"
// V3: extents = [37], map = #task.map<repeat(5, 1) * spatial(8, 1)>
// PLAIN-LABEL: func.func @row(
// PLAIN-NOT: vector
// PLAIN-LABEL: func.func @row_sum(
// FOUR: vector.load %{{.*}} : memref<148xf32>, vector<4xf32>
"task.kernel"() ({
^bb0(%x: memref<4x37xf32>, %y: memref<4x37xf32>, %b: index):
  "task.foreach"() ({
  ^bb1(%i: index):
    %v = "task.load"(%x, %b, %i) {map = affine_map<(d0, d1) -> (d0, d1)>} : (memref<4x37xf32>, index, index) -> f32
    %r = arith.negf %v : f32
    "task.store"(%r, %y, %b, %i) {map = affine_map<(d0, d1) -> (d0, d1)>} : (f32, memref<4x37xf32>, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [37]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "row", grid = [4], inputs = 1} : () -> ()

// Rows that lie along the reduction: its lanes share one point's sum.
// CHECK: extents = [16], map = #task.map<repeat(16, 7) * spatial(1, 16)>
// CHECK: sym_name = "row_sum"
"task.kernel"() ({
^bb0(%x: memref<16x100xf32>, %y: memref<16xf32>):
  "task.foreach"() ({
  ^bb1(%i: index):
    %zero = arith.constant 0.0 : f32
    %s = "task.reduce"(%zero) ({
    ^bb2(%k: index, %acc: f32):
      %v = "task.load"(%x, %i, %k) {map = affine_map<(d0, d1) -> (d0, d1)>} : (memref<16x100xf32>, index, index) -> f32
      %n = arith.addf %acc, %v : f32
      "task.yield"(%n) : (f32) -> ()
    }) {extents = [100], combine = ["addf"]} : (f32) -> f32
    "task.store"(%s, %y, %i) {map = affine_map<(d0) -> (d0)>} : (f32, memref<16xf32>, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [16]} : () -> ()
  "task.end"() : () -> ()
}) {sym_name = "row_sum", grid = [], inputs = 1} : () -> ()

// A deep product: a tile of 13 x 2 vectors of sums (6 x 2 with 16 registers of 8 lanes), and pieces of 512 of the 1024 reduction points.
// CHECK: "task.mma"
// CHECK-SAME: registers = [13, 2, 16], step = 512 : i64
// CHECK: sym_name = "deep"
// V3: registers = [6, 2, 8], step = 512 : i64
"task.kernel"() ({
^bb0(%a: memref<64x1024xf32>, %b: memref<1024x32xf32>, %c: memref<64x32xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [64, 32, 1024], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (k, n)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<64x1024xf32>, memref<1024x32xf32>, memref<64x32xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "deep", grid = [], inputs = 2} : () -> ()

// Two rows by columns that are not contiguous: dot products along the reduction, so the product becomes a foreach.
// CHECK-NOT: "task.mma"
// CHECK: "task.reduce"
// CHECK: extents = [2, 32], map = #task.map<repeat(64, 4) * spatial(1, 16)>
// CHECK: sym_name = "dots"
"task.kernel"() ({
^bb0(%a: memref<2x64xf32>, %b: memref<32x64xf32>, %c: memref<2x32xf32>):
  "task.mma"(%a, %b, %c) {atom = "fma", extents = [2, 32, 64], reductions = 1, maps = [
    affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>, affine_map<(m, n, k) -> (m, n)>]}
    : (memref<2x64xf32>, memref<32x64xf32>, memref<2x32xf32>) -> ()
  "task.end"() : () -> ()
}) {sym_name = "dots", grid = [], inputs = 2} : () -> ()
