// Opaque graphs: independent parts become a grid, and memory that the code allocates becomes buffers of the plan.
// RUN: %mlc-opt %s --split-input-file --lower-tile-to-task | filecheck %s

// A scf.forall alone is a grid. Its scratch memory has a part for each block, behind the results.
// CHECK: "task.kernel"() ({
// CHECK-NEXT: ^bb0(%[[X:.*]]: memref<6x4x8xf32>, %[[Y:.*]]: memref<6x4x8xf32>, %[[S:.*]]: memref<6x4x8xf32>, %[[I:.*]]: index, %[[J:.*]]: index):
// CHECK-NOT: scf.forall
// CHECK-NOT: memref.alloc
// CHECK: memref.load %[[X]][%[[I]], %[[J]], %{{.*}}]
// CHECK: memref.store %{{.*}}, %[[S]][%[[I]], %[[J]], %{{.*}}]
// CHECK: memref.load %[[S]][%[[I]], %[[J]], %{{.*}}]
// CHECK: memref.store %{{.*}}, %[[Y]][%[[I]], %[[J]], %{{.*}}]
// CHECK: }) {grid = [6, 4], inputs = 1 : i64, sym_name = "kernel_0"}
// CHECK-LABEL: func.func @parts
// CHECK: %[[B:.*]] = "task.buffer"() {offset = -1 : i64} : () -> memref<6x4x8xf32>
// CHECK: "task.launch"(%{{.*}}, %{{.*}}, %[[B]]) {kernel = "kernel_0"
func.func @parts(%x: tensor<6x4x8xf32>) -> tensor<6x4x8xf32> {
  %y = "tile.graph"(%x) ({
  ^bb0(%a: tensor<6x4x8xf32>):
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c7 = arith.constant 7 : index
    %c8 = arith.constant 8 : index
    %e = bufferization.alloc_tensor() : tensor<6x4x8xf32>
    %r = scf.forall (%i, %j) in (6, 4) shared_outs(%o = %e) -> (tensor<6x4x8xf32>) {
      %row = tensor.extract_slice %a[%i, %j, 0] [1, 1, 8] [1, 1, 1] : tensor<6x4x8xf32> to tensor<8xf32>
      %out = tensor.extract_slice %o[%i, %j, 0] [1, 1, 8] [1, 1, 1] : tensor<6x4x8xf32> to tensor<8xf32>
      %s = tensor.empty() : tensor<8xf32>
      %t = scf.for %k = %c0 to %c8 step %c1 iter_args(%acc = %s) -> (tensor<8xf32>) {
        %v = tensor.extract %row[%k] : tensor<8xf32>
        %w = tensor.insert %v into %acc[%k] : tensor<8xf32>
        scf.yield %w : tensor<8xf32>
      }
      %u = scf.for %k = %c0 to %c8 step %c1 iter_args(%acc = %out) -> (tensor<8xf32>) {
        %at = arith.subi %c7, %k : index
        %v = tensor.extract %t[%at] : tensor<8xf32>
        %w = tensor.insert %v into %acc[%k] : tensor<8xf32>
        scf.yield %w : tensor<8xf32>
      }
      scf.forall.in_parallel {
        tensor.parallel_insert_slice %u into %o[%i, %j, 0] [1, 1, 8] [1, 1, 1] : tensor<8xf32> into tensor<6x4x8xf32>
      }
    }
    "tile.yield"(%r) : (tensor<6x4x8xf32>) -> ()
  }) : (tensor<6x4x8xf32>) -> tensor<6x4x8xf32>
  return %y : tensor<6x4x8xf32>
}

// -----

// Parts that others follow are no grid: blocks would not wait for each other.
// CHECK: "task.kernel"() ({
// CHECK-NEXT: ^bb0(%{{.*}}: memref<6xf32>, %{{.*}}: memref<6xf32>):
// CHECK: scf.for
// CHECK-NOT: scf.forall
// CHECK: }) {grid = [], inputs = 1 : i64, sym_name = "kernel_0"}
// CHECK-LABEL: func.func @sequence
func.func @sequence(%x: tensor<6xf32>) -> tensor<6xf32> {
  %y = "tile.graph"(%x) ({
  ^bb0(%a: tensor<6xf32>):
    %c0 = arith.constant 0 : index
    %c5 = arith.constant 5 : index
    %e = bufferization.alloc_tensor() : tensor<6xf32>
    %r = scf.forall (%i) in (6) shared_outs(%o = %e) -> (tensor<6xf32>) {
      %v = tensor.extract_slice %a[%i] [1] [1] : tensor<6xf32> to tensor<1xf32>
      scf.forall.in_parallel {
        tensor.parallel_insert_slice %v into %o[%i] [1] [1] : tensor<1xf32> into tensor<6xf32>
      }
    }
    %last = tensor.extract %r[%c5] : tensor<6xf32>
    %s = tensor.insert %last into %r[%c0] : tensor<6xf32>
    "tile.yield"(%s) : (tensor<6xf32>) -> ()
  }) : (tensor<6xf32>) -> tensor<6xf32>
  return %y : tensor<6xf32>
}
