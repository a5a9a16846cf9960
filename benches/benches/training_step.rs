//! Forward and backward of a SimCLR step with the demo's ConvNet; the rate is in images, each seen in two views.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use selfsup::core::{Device, Error, ImageViews, Key, Kind, MlpHeadConfig, Objective, Site, Step, Tensor, nn};
use selfsup::encoders::{ConvNet, ConvNetConfig};
use selfsup::objectives::{SimClr, SimClrConfig};

const IMAGES: i64 = 256;

fn bench(c: &mut Criterion) {
    Key::new(0).seed_torch();
    let store = nn::VarStore::new(Device::Cpu);
    let config = ConvNetConfig { channels_in: 1, ..ConvNetConfig::default() };
    let encoder = ConvNet::new(store.root() / "encoder", &config).expect("a valid network");
    let config = SimClrConfig { projector: MlpHeadConfig::projector(512, 128), ..SimClrConfig::default() };
    let site = Site::new(&store, &encoder, IMAGES, |_| Err(Error::Other("SimCLR has no teacher".into())));
    let mut objective = SimClr::new(&site, &config).expect("a valid objective");
    let mut group = c.benchmark_group("simclr_step");
    group.sample_size(10).throughput(Throughput::Elements(IMAGES as u64));
    for size in [28, 20, 16] {
        let view =
            || Tensor::randn([IMAGES, size, size, 1], (Kind::Float, Device::Cpu)).permute([0, 3, 1, 2]);
        let indices = Tensor::arange(IMAGES, (Kind::Int64, Device::Cpu));
        let batch = ImageViews { views: vec![view(), view()], indices, labels: None };
        group.bench_function(BenchmarkId::new("convnet", format!("2x{IMAGES}x1x{size}x{size}")), |b| {
            b.iter(|| {
                let step = Step::single(0, 1, 0, 0);
                let loss = objective.loss(&encoder, &batch, &step).expect("a batch that fits");
                loss.total.backward();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
