//! Exact nearest neighbours of every query among all keys.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use selfsup::numerics::{TopKConfig, top_k};
use selfsup_benches::normal;

fn bench(c: &mut Criterion) {
    let (queries, keys) = (normal(10_000, 128), normal(50_000, 128));
    let config = TopKConfig { k: 200, ..TopKConfig::default() };
    let mut group = c.benchmark_group("top_k");
    group.sample_size(10).throughput(Throughput::Elements(10_000));
    group.bench_function(BenchmarkId::new("cosine", "10000x50000x128-k200"), |b| {
        b.iter(|| top_k(&queries, &keys, &config).expect("finite features"));
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
