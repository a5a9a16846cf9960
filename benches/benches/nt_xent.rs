//! NT-Xent forward and backward.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use selfsup::core::SingleProcess;
use selfsup::objectives::{NtXent, NtXentConfig};
use selfsup_benches::normal;

fn bench(c: &mut Criterion) {
    let loss = NtXent::new(NtXentConfig::default()).expect("the default is valid");
    let mut group = c.benchmark_group("nt_xent");
    for pairs in [256, 1024] {
        let (z0, z1) =
            (normal(pairs, 128).set_requires_grad(true), normal(pairs, 128).set_requires_grad(true));
        group.bench_function(BenchmarkId::new("forward_backward", format!("{pairs}x128")), |b| {
            b.iter(|| loss.forward(&z0, &z1, &SingleProcess).expect("equal shapes").backward());
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
