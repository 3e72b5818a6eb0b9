// choose-mapping: threads do not share the nine points of a window where that leaves each of them more to do one after the other: two points
// of five steps and an exchange, instead of one of nine steps.
// RUN: %mlc-opt %s --target=cuda:sm_80 --pass-pipeline='builtin.module(choose-mapping)' | filecheck %s
// RUN: %mlc-opt %s --target=rocm:gfx942 --pass-pipeline='builtin.module(choose-mapping)' | filecheck %s

// CHECK: extents = [3, 3]
// CHECK: {extents = [14, 1, 16], map = #task.map<repeat(1, 9) * spatial(256, 1)>}
#at = affine_map<(i, j, c, p, q) -> (i + p, j + q, c)>
#weight = affine_map<(c, p, q) -> (p, q, c)>
#own = affine_map<(i, j, c) -> (i, j, c)>
"task.kernel"() ({
^bb0(%x: memref<16x3x16xf16>, %w: memref<3x3x16xf16>, %y: memref<14x1x16xf32>):
  "task.foreach"() ({
  ^bb0(%i: index, %j: index, %c: index):
    %zero = arith.constant 0.000000e+00 : f32
    %sum = "task.reduce"(%zero) ({
    ^bb0(%p: index, %q: index, %sum: f32):
      %a = "task.load"(%x, %i, %j, %c, %p, %q) {map = #at} : (memref<16x3x16xf16>, index, index, index, index, index) -> f16
      %b = "task.load"(%w, %c, %p, %q) {map = #weight} : (memref<3x3x16xf16>, index, index, index) -> f16
      %ab = arith.mulf %a, %b : f16
      %wide = arith.extf %ab : f16 to f32
      %next = arith.addf %wide, %sum : f32
      "task.yield"(%next) : (f32) -> ()
    }) {combine = ["addf"], extents = [3, 3]} : (f32) -> f32
    "task.store"(%sum, %y, %i, %j, %c) {map = #own} : (f32, memref<14x1x16xf32>, index, index, index) -> ()
    "task.yield"() : () -> ()
  }) {extents = [14, 1, 16]} : () -> ()
  "task.end"() : () -> ()
}) {grid = [], inputs = 2 : i64, sym_name = "window"} : () -> ()
