//! What is measured: a table to read and to add to.

/// A row of the table.
pub struct Row {
    /// Its name, which both sides know.
    pub name: &'static str,
    /// What it works on.
    pub shape: &'static str,
    /// What a rate counts.
    pub unit: &'static str,
    /// What is compared.
    pub kind: Kind,
    /// The peer's script in `benches/peers`; empty for a row of ours alone.
    pub script: &'static str,
    /// What a user runs today, as its documentation advises and in its best known settings.
    pub peers: &'static [Setting],
    /// The work of one unit, for the limit that the machine sets.
    pub limit: Limit,
}

/// What a row compares.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Units a second in rounds.
    Rate,
    /// Seconds from the start of the program to its first step.
    Start,
    /// Peak memory after a round, all processes together.
    Memory,
    /// Pages that the system had to give for a batch, in a round after the first.
    Faults,
    /// Seconds of a whole pretraining.
    Race,
}

/// A setting of a peer.
pub struct Setting {
    /// Its name in the script.
    pub name: &'static str,
    /// Who that is, as a reader knows it.
    pub peer: &'static str,
    /// Whether tcmalloc is preloaded.
    pub tcmalloc: bool,
}

/// What bounds a rate from above.
#[derive(Clone, Copy)]
pub enum Limit {
    /// Nothing that is known.
    Unknown,
    /// So many floating-point operations a unit, at the rate of a large matrix product.
    Flops(f64),
    /// So many units of the rate of another row of ours.
    Row(&'static str, f64),
}

const fn plain(name: &'static str, peer: &'static str) -> Setting {
    Setting { name, peer, tcmalloc: false }
}

const fn tcmalloc(name: &'static str, peer: &'static str) -> Setting {
    Setting { name, peer, tcmalloc: true }
}

const VIEWS: &[Setting] = &[
    plain("lightly-default", "lightly on PIL, 2 workers"),
    plain("torchvision-v2", "torchvision v2, 2 workers"),
    plain("albumentations", "Albumentations, 2 workers"),
];

const LOSSES: &[Setting] = &[
    plain("lightly", "lightly"),
    tcmalloc("lightly", "lightly, tcmalloc"),
    tcmalloc("matmul", "PyTorch by hand, tcmalloc"),
    tcmalloc("matmul-compile", "PyTorch by hand, compiled, tcmalloc"),
];

const OTHER_LOSSES: &[Setting] = &[
    plain("lightly", "lightly"),
    tcmalloc("lightly", "lightly, tcmalloc"),
    tcmalloc("compile", "lightly, compiled, tcmalloc"),
];

const STEPS: &[Setting] = &[
    plain("eager", "PyTorch eager"),
    tcmalloc("eager", "PyTorch eager, tcmalloc"),
    tcmalloc("channels-last", "PyTorch channels-last, tcmalloc"),
    tcmalloc("compile", "PyTorch compiled, tcmalloc"),
    tcmalloc("compile-channels-last", "PyTorch compiled, channels-last, tcmalloc"),
];

/// A network of matrix products alone has no layout to choose.
const VIT_STEPS: &[Setting] = &[
    plain("eager", "PyTorch eager"),
    tcmalloc("eager", "PyTorch eager, tcmalloc"),
    tcmalloc("compile", "PyTorch compiled, tcmalloc"),
];

const END_TO_END: &[Setting] = &[
    plain("lightly-default", "lightly, 2 workers"),
    tcmalloc("lightly-best", "lightly, channels-last, tcmalloc, 2 workers"),
];

const END_TO_END_BF16: &[Setting] = &[
    plain("lightly-default", "lightly, 2 workers, 32 bits"),
    tcmalloc("lightly-best", "lightly, bfloat16, channels-last, tcmalloc, 2 workers"),
];

/// Operations of a view through the demo's ConvNet and back: 24.3 million forward, twice that backward.
const CONVNET_VIEW: f64 = 3.0 * 24.3e6;

/// Multiplications and additions of NT-Xent on n pairs of 128 numbers: half a matrix product forward, one backward.
const fn nt_xent(pairs: f64) -> Limit {
    Limit::Flops(1.5 * 2.0 * (2.0 * pairs) * (2.0 * pairs) * 128.0)
}

const fn rate(
    name: &'static str,
    shape: &'static str,
    unit: &'static str,
    script: &'static str,
    peers: &'static [Setting],
    limit: Limit,
) -> Row {
    Row { name, shape, unit, kind: Kind::Rate, script, peers, limit }
}

/// A row without a peer.
const fn alone(name: &'static str, shape: &'static str) -> Row {
    Row { name, shape, unit: "MB", kind: Kind::Memory, script: "", peers: &[], limit: Limit::Unknown }
}

/// The rows in the order of the table.
pub const ROWS: &[Row] = &[
    rate(
        "views-32",
        "two views of 32x32x3 from memory, no blur",
        "views/s",
        "augmentation.py",
        VIEWS,
        Limit::Unknown,
    ),
    rate(
        "views-32-blur",
        "two views of 32x32x3 from memory, blur 0.5",
        "views/s",
        "augmentation.py",
        VIEWS,
        Limit::Unknown,
    ),
    rate(
        "views-224",
        "two views of 224x224x3 from 500x375 JPEG, blur 0.5",
        "views/s",
        "augmentation.py",
        VIEWS,
        Limit::Row("decode-224", 2.0),
    ),
    rate(
        "multi-crop",
        "2 x 224 + 6 x 96 from 500x375 JPEG, blur 0.5",
        "views/s",
        "augmentation.py",
        VIEWS,
        Limit::Row("decode-224", 8.0),
    ),
    rate(
        "decode-224",
        "500x375 JPEG, decoding alone",
        "images/s",
        "augmentation.py",
        &[plain("pillow", "Pillow, 2 workers"), plain("torchvision", "torchvision, 2 workers")],
        Limit::Unknown,
    ),
    rate(
        "nt-xent-256",
        "256 pairs x 128, forward and backward",
        "iterations/s",
        "losses.py",
        LOSSES,
        nt_xent(256.0),
    ),
    rate(
        "nt-xent-1024",
        "1,024 pairs x 128, forward and backward",
        "iterations/s",
        "losses.py",
        LOSSES,
        nt_xent(1024.0),
    ),
    rate(
        "barlow",
        "Barlow Twins, 256 pairs x 2,048, forward and backward",
        "iterations/s",
        "losses.py",
        OTHER_LOSSES,
        Limit::Unknown,
    ),
    rate(
        "vicreg",
        "VICReg, 256 pairs x 2,048, forward and backward",
        "iterations/s",
        "losses.py",
        OTHER_LOSSES,
        Limit::Unknown,
    ),
    rate(
        "swav-sinkhorn",
        "SwAV's Sinkhorn, 256 samples x 3,000 prototypes, 3 iterations",
        "iterations/s",
        "losses.py",
        OTHER_LOSSES,
        Limit::Unknown,
    ),
    rate(
        "dino",
        "DINO, 2 + 6 views of 64 images x 4,096, forward, backward and centre",
        "iterations/s",
        "losses.py",
        OTHER_LOSSES,
        Limit::Unknown,
    ),
    rate(
        "step-convnet",
        "SimCLR step, demo's ConvNet, 2 x 256 x 1x28x28",
        "images/s",
        "training.py",
        STEPS,
        Limit::Flops(2.0 * CONVNET_VIEW),
    ),
    rate(
        "step-resnet18",
        "SimCLR step, ResNet-18 (CIFAR stem), 64 views of 3x32x32",
        "views/s",
        "training.py",
        STEPS,
        Limit::Flops(3.0 * 1.11e9),
    ),
    rate(
        "step-vit-tiny",
        "SimCLR step, ViT-tiny, patches of 4, 64 views of 3x32x32",
        "views/s",
        "training.py",
        VIT_STEPS,
        Limit::Flops(3.0 * 2.0 * 5.35e6 * 65.0),
    ),
    rate(
        "step-convnet-bf16",
        "SimCLR step, demo's ConvNet, 2 x 256 x 1x28x28, products in bfloat16",
        "images/s",
        "training.py",
        STEPS,
        Limit::Unknown,
    ),
    rate(
        "step-resnet18-bf16",
        "SimCLR step, ResNet-18 (CIFAR stem), 64 views of 3x32x32, products in bfloat16",
        "views/s",
        "training.py",
        STEPS,
        Limit::Unknown,
    ),
    rate(
        "step-vit-tiny-bf16",
        "SimCLR step, ViT-tiny, patches of 4, 64 views of 3x32x32, products in bfloat16",
        "views/s",
        "training.py",
        VIT_STEPS,
        Limit::Unknown,
    ),
    rate(
        "end-to-end",
        "demo's recipe at 28 pixels, an epoch of 10,000 images",
        "images/s",
        "end_to_end.py",
        END_TO_END,
        Limit::Row("step-convnet", 1.0),
    ),
    rate(
        "end-to-end-bf16",
        "demo's recipe at 28 pixels, an epoch of 10,000 images, products in bfloat16",
        "images/s",
        "end_to_end.py",
        END_TO_END_BF16,
        Limit::Row("step-convnet-bf16", 1.0),
    ),
    Row {
        kind: Kind::Memory,
        ..rate(
            "end-to-end-memory",
            "the same, peak memory of all processes, shared pages once",
            "MB",
            "end_to_end.py",
            END_TO_END,
            Limit::Unknown,
        )
    },
    Row {
        kind: Kind::Race,
        ..rate(
            "time-to-quality",
            "the demo's task; linear / ten labels a class / k-NN, 30 epochs of lightly, 24 of ours in bfloat16",
            "s",
            "quality.py",
            &[plain("simclr", "lightly, 2 workers")],
            Limit::Unknown,
        )
    },
    Row {
        kind: Kind::Start,
        ..rate(
            "first-step",
            "from the start of the program to the first step's end",
            "s",
            "end_to_end.py",
            &[plain("lightly", "lightly")],
            Limit::Unknown,
        )
    },
    rate(
        "knn",
        "10,000 queries x 50,000 keys x 128, k = 200",
        "queries/s",
        "neighbours.py",
        &[plain("faiss", "FAISS flat"), plain("torch", "PyTorch matmul and topk")],
        Limit::Flops(2.0 * 50_000.0 * 128.0),
    ),
    rate(
        "kmeans",
        "50,000 x 128, k = 100, 20 iterations",
        "points x iterations/s",
        "neighbours.py",
        &[plain("faiss", "FAISS"), plain("scikit-learn", "scikit-learn")],
        Limit::Flops(2.0 * 100.0 * 128.0),
    ),
    rate(
        "probe",
        "linear probe, 20,000 x 784, 10 classes, strength chosen among 11",
        "samples/s",
        "probe.py",
        &[plain("scikit-learn", "scikit-learn")],
        Limit::Unknown,
    ),
    rate(
        "probe-512",
        "linear probe, 50,000 x 512, 10 classes, strength chosen among 11",
        "samples/s",
        "probe.py",
        &[plain("scikit-learn", "scikit-learn")],
        Limit::Unknown,
    ),
    Row {
        name: "loader-steady",
        shape: "npy array of 20,000 images of 32x32x3, a later epoch of two views, batches of 256",
        unit: "new pages/batch",
        kind: Kind::Faults,
        script: "",
        peers: &[],
        limit: Limit::Unknown,
    },
    alone("loader-memory-1x", "npy array of 2,000 images of 32x32x3, an epoch of two views"),
    alone("loader-memory-10x", "the same, 20,000 images"),
    alone("loader-memory-100x", "the same, 200,000 images"),
    alone("loader-memory-shards-1x", "tar shards of 1,000 images of 32x32x3, 2 of them"),
    alone("loader-memory-shards-10x", "the same, 20 shards"),
    alone("loader-memory-shards-100x", "the same, 200 shards"),
];
