// task: every rule of the ops, broken once; the message names the op and the rule.
// RUN: %mlc-opt %s --verify-diagnostics

// expected-error@below {{'task.kernel' op takes memrefs, then 2 block indices, got ['memref<64xf32>', 'index']}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "too_few_indices", grid = [4, 2], inputs = 1} : () -> ()

// expected-error@below {{'task.kernel' op takes memrefs, then 1 block indices, got ['index', 'memref<64xf32>']}}
"task.kernel"() ({
^bb0(%b: index, %x: memref<64xf32>):
  "task.end"() : () -> ()
}) {sym_name = "index_first", grid = [4], inputs = 1} : () -> ()

// expected-error@below {{'task.kernel' op needs a positive grid, got [0]}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "no_blocks", grid = [0], inputs = 1} : () -> ()

// expected-error@below {{'task.kernel' op declares 2 inputs of 1 buffers}}
"task.kernel"() ({
^bb0(%x: memref<64xf32>, %b: index):
  "task.end"() : () -> ()
}) {sym_name = "too_many_inputs", grid = [4], inputs = 2} : () -> ()

func.func @inside(%x: memref<64xf32>, %y: memref<32xf32>, %a: memref<16x8xf32>) {
  // expected-error@below {{'task.alloc' op level must be shared or register, got 'global'}}
  %0 = "task.alloc"() {level = "global"} : () -> memref<16xf32>
  // expected-error@below {{'task.foreach' op body takes 2 indices, got 1}}
  "task.foreach"() ({
  ^bb0(%i: index):
    "task.yield"() : () -> ()
  }) {extents = [16, 64]} : () -> ()
  // expected-error@below {{'task.mma' op has 3 reductions of 2 dimensions and 3 maps}}
  "task.mma"(%a, %a, %a) {atom = "fma", extents = [16, 8], reductions = 3, maps = [
    affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.mma' op has 1 reductions of 2 dimensions and 2 maps}}
  "task.mma"(%a, %a, %a) {atom = "fma", extents = [16, 8], reductions = 1, maps = [
    affine_map<(m, n) -> (m, n)>, affine_map<(m, n) -> (m, n)>]}
    : (memref<16x8xf32>, memref<16x8xf32>, memref<16x8xf32>) -> ()
  // expected-error@below {{'task.copy' op takes sources, then as many targets of equal types, got ['memref<64xf32>', 'memref<32xf32>']}}
  "task.copy"(%x, %y) : (memref<64xf32>, memref<32xf32>) -> ()
  // expected-error@below {{'task.copy' op takes sources, then as many targets of equal types, got ['memref<64xf32>']}}
  "task.copy"(%x) : (memref<64xf32>) -> ()
  // expected-error@below {{'task.load' op needs attribute 'map' (Attribute)}}
  %1 = "task.load"(%x) : (memref<64xf32>) -> f32
  // expected-error@below {{'task.launch' op needs attribute 'kernel' (str)}}
  "task.launch"(%x, %y) : (memref<64xf32>, memref<32xf32>) -> ()
  return
}
