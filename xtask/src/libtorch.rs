//! Which files make up libtorch on each platform, and where they come from.
//!
//! torch's wheels hold libtorch and much else. For a CPU only what the dynamic linker loads is taken: on
//! x86-64 Linux 0.5 GB in place of 4. `libtorch_cpu` of that wheel needs the CUDA runtime and its profiling
//! interface even where there is no GPU; both come from small wheels of their own. For a GPU the libraries of
//! CUDA are laid out as pip would, where torch's rpath looks for them.
//!
//! Whoever changes the version runs `cargo xtask setup` with the old digests: it names those it found.

use selfsup_fetch::{Item, Part, Set, Source};

/// The version that tch needs.
pub const VERSION: &str = "2.11.0";

/// A libtorch that can be had.
pub struct Libtorch {
    pub set: &'static Set,
    /// The folder within the set's that holds `include` and `lib`.
    pub inside: &'static str,
}

/// What there is for this platform in the order of preference; empty where there is nothing.
pub fn choices(gpu: bool) -> &'static [Libtorch] {
    if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        if gpu { LINUX_X86_64_CUDA } else { LINUX_X86_64 }
    } else if cfg!(all(target_os = "linux", target_arch = "aarch64")) {
        LINUX_AARCH64
    } else if cfg!(all(target_os = "macos", target_arch = "aarch64")) {
        MACOS_AARCH64
    } else {
        &[]
    }
}

const LICENCE: &str = "BSD-3-Clause; NVIDIA's libraries under NVIDIA's terms";

/// pip takes a wheel whose platform stands here literally: newer is not taken to include older.
const X86_64: &[&str] = &[
    "manylinux_2_28_x86_64",
    "manylinux_2_27_x86_64",
    "manylinux_2_25_x86_64",
    "manylinux_2_18_x86_64",
    "manylinux_2_17_x86_64",
    "manylinux2014_x86_64",
];
const AARCH64: &[&str] =
    &["manylinux_2_28_aarch64", "manylinux_2_25_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"];
const MACOS: &[&str] = &["macosx_11_0_arm64"];

const fn wheel(
    package: &'static str,
    version: &'static str,
    platforms: &'static [&'static str],
    root: &'static str,
) -> Source {
    Source::Pip { package, version, platforms, root }
}

/// The official archive has other builds of the same libraries, and no digest of it is published.
const OFFICIAL: &[Item] = &[
    Item::Folder { from: "include", names: "*", to: "include", sha256: None },
    Item::Folder { from: "lib", names: "*", to: "lib", sha256: None },
    Item::Text { to: "build-version", text: VERSION },
];

// The SHA-256 digests that the CPU and the CUDA layout of x86-64 Linux share.
const TORCH: &str = "c1840a555e30043ef02c02ee22b21d0687342a3ce82bc971ef2280520c20cd22";
const TORCH_CPU: &str = "2e1034d418c1c881c86f67fc357b8723efc3f22bdb266f06aace8e6ca9c170b3";
const C10: &str = "be5e17cd7752a6af003978706379384c3108f6b68916bb1949e610f6397bb640";
const GLOBAL_DEPS: &str = "22e580920a618c7c45e2aae16752f0bdfb23ae9a31150ae8f4066bbe8020e104";
const GOMP: &str = "e28fb2896a3d612b46a27d7f8ef840d34c9efbc29b70a044c42095fb94856890";
const INCLUDE: &str = "8916472b465e2ce060efb282841e55287506272cd8f423a0d7c1401b88ee6b8f";
const CUDART: &str = "96c42e418cec19054186b9429c321603cc190bf26a18104e19408117a2a817b0";
const CUPTI: &str = "e2f9ed861fe27c492b8bb52b5e3220ef5120f3edcda36312e96b7fd8a186be3e";

static LINUX_X86_64: &[Libtorch] = &[
    Libtorch {
        set: &Set {
            name: "libtorch",
            about: "libtorch 2.11.0 for CPUs, x86-64 Linux",
            licence: LICENCE,
            folder: "libtorch/2.11.0-cpu",
            parts: &[
                Part {
                    sources: &[wheel("torch", "2.11.0", X86_64, "torch")],
                    items: &[
                        Item::folder("include", "*", "include", INCLUDE),
                        Item::file("lib/libtorch.so", "lib/libtorch.so", TORCH),
                        Item::file("lib/libtorch_cpu.so", "lib/libtorch_cpu.so", TORCH_CPU),
                        Item::file("lib/libc10.so", "lib/libc10.so", C10),
                        Item::file("lib/libtorch_global_deps.so", "lib/libtorch_global_deps.so", GLOBAL_DEPS),
                        Item::file("lib/libgomp.so.1", "lib/libgomp.so.1", GOMP),
                        Item::Text { to: "build-version", text: "2.11.0" },
                    ],
                },
                Part {
                    sources: &[wheel("nvidia-cuda-runtime", "13.0.96", X86_64, "nvidia/cu13/lib")],
                    items: &[Item::file("libcudart.so.13", "lib/libcudart.so.13", CUDART)],
                },
                Part {
                    sources: &[wheel("nvidia-cuda-cupti", "13.0.85", X86_64, "nvidia/cu13/lib")],
                    items: &[Item::file("libcupti.so.13", "lib/libcupti.so.13", CUPTI)],
                },
            ],
        },
        inside: "",
    },
    Libtorch {
        set: &Set {
            name: "libtorch",
            about: "the official archive of libtorch 2.11.0 for CPUs",
            licence: LICENCE,
            folder: "libtorch/2.11.0-official",
            parts: &[Part {
                sources: &[Source::WebArchive {
                    address: "https://download.pytorch.org/libtorch/cpu/libtorch-shared-with-deps-2.11.0%2Bcpu.zip",
                    limit: 1 << 30,
                    root: "libtorch",
                }],
                items: OFFICIAL,
            }],
        },
        inside: "",
    },
];

static LINUX_X86_64_CUDA: &[Libtorch] = &[Libtorch {
    set: &Set {
        name: "libtorch",
        about: "libtorch 2.11.0 with CUDA 13, x86-64 Linux",
        licence: LICENCE,
        folder: "libtorch/2.11.0-cuda",
        parts: &[
            Part {
                sources: &[wheel("torch", "2.11.0", X86_64, "torch")],
                items: &[
                    Item::folder("include", "*", "torch/include", INCLUDE),
                    Item::file("lib/libtorch.so", "torch/lib/libtorch.so", TORCH),
                    Item::file("lib/libtorch_cpu.so", "torch/lib/libtorch_cpu.so", TORCH_CPU),
                    Item::file("lib/libc10.so", "torch/lib/libc10.so", C10),
                    Item::file(
                        "lib/libtorch_global_deps.so",
                        "torch/lib/libtorch_global_deps.so",
                        GLOBAL_DEPS,
                    ),
                    Item::file("lib/libgomp.so.1", "torch/lib/libgomp.so.1", GOMP),
                    Item::file(
                        "lib/libtorch_cuda.so",
                        "torch/lib/libtorch_cuda.so",
                        "fd13a41b54fe3d8af91075962d9fe155a16616ca09c7b79b7251869ff6230d32",
                    ),
                    Item::file(
                        "lib/libc10_cuda.so",
                        "torch/lib/libc10_cuda.so",
                        "962b69f3dec6cacf6e7d5f9d4c79becd34ca379d7abd2571b2eb4c1c153d168b",
                    ),
                    Item::file(
                        "lib/libtorch_cuda_linalg.so",
                        "torch/lib/libtorch_cuda_linalg.so",
                        "6cbb886f8395dce1f79732c6153eb70bd87dd2e7d9d4b4bc9525de6384700b47",
                    ),
                    Item::file(
                        "lib/libtorch_nvshmem.so",
                        "torch/lib/libtorch_nvshmem.so",
                        "096daa47d586ca3f5ded1c89fbd5a6ab970be0b3c2bd0c28c0f9a424aec673ce",
                    ),
                    Item::file(
                        "lib/libcaffe2_nvrtc.so",
                        "torch/lib/libcaffe2_nvrtc.so",
                        "359285ffd0b1a9509e537a66f68be20317b3c3bcebfcfcd9bd2c030b65cb40fd",
                    ),
                    Item::Text { to: "torch/build-version", text: "2.11.0" },
                ],
            },
            Part {
                sources: &[wheel("nvidia-cuda-runtime", "13.0.96", X86_64, "nvidia/cu13/lib")],
                items: &[Item::file("libcudart.so.13", "nvidia/cu13/lib/libcudart.so.13", CUDART)],
            },
            Part {
                sources: &[wheel("nvidia-cuda-cupti", "13.0.85", X86_64, "nvidia/cu13/lib")],
                items: &[Item::file("libcupti.so.13", "nvidia/cu13/lib/libcupti.so.13", CUPTI)],
            },
            Part {
                sources: &[wheel("nvidia-cublas", "13.1.0.3", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "lib*blas*.so.*",
                    "nvidia/cu13/lib",
                    "874862abc553b101d34b22021a3396d839f45ef6d9e150dc5b4aa4a9810fcd33",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cuda-nvrtc", "13.0.88", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libnvrtc*",
                    "nvidia/cu13/lib",
                    "9a7c6c18fa74fa922f0eb536414e4198cd9605a9ef731812ecc748e44fdd536d",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cufft", "12.0.0.61", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libcufft*",
                    "nvidia/cu13/lib",
                    "fab5d0aad47e12f2fa95881914d03ce7b9ce245d53834f6574fe6c2ced857a82",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cufile", "1.15.1.6", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libcufile*.so.*",
                    "nvidia/cu13/lib",
                    "29b82e7daa495dee7dc812bf3365d60be2fb68cfa67fa12cd803c1072a635566",
                )],
            },
            Part {
                sources: &[wheel("nvidia-curand", "10.4.0.35", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libcurand.so.*",
                    "nvidia/cu13/lib",
                    "99305c3120ccbccb87709eece6f2d9fd8b9c7b4c7ac21c26d7c2f0f4cc92ae6f",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cusolver", "12.0.4.66", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libcusolver*",
                    "nvidia/cu13/lib",
                    "8042e25a0e45f1cbd42af712a439943587e90e388c136779fd79214d6ccd6496",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cusparse", "12.6.3.3", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libcusparse.so.*",
                    "nvidia/cu13/lib",
                    "09b3c0b57d236c83dee888e3f1ba313bfe001a1e9171516f9bd06211826a1148",
                )],
            },
            Part {
                sources: &[wheel("nvidia-nvjitlink", "13.0.88", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cu13/lib",
                    "libnvJitLink.so.*",
                    "nvidia/cu13/lib",
                    "231610691c257bbdc827753854b66b6f3d91785b13f8aa2632b3acdc2af8b89e",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cusparselt-cu13", "0.8.0", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cusparselt/lib",
                    "*.so.*",
                    "nvidia/cusparselt/lib",
                    "e5ae3da008753e7b9a6d4e37649d2d781e1550cc14c9cf2c5a1c2b293ccfa6d0",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cudnn-cu13", "9.19.0.56", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/cudnn/lib",
                    "*.so.*",
                    "nvidia/cudnn/lib",
                    "47b8aeb080b8af4de54f5ae69dca2aceb93cc5bd0ac3b80bd83733c528a05fc1",
                )],
            },
            Part {
                sources: &[wheel("nvidia-nccl-cu13", "2.28.9", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/nccl/lib",
                    "*.so.*",
                    "nvidia/nccl/lib",
                    "ffe0108b54ee04baf9184608b6cf9ccbd383741d2ba5b845b15314b61fc0ffb1",
                )],
            },
            Part {
                sources: &[wheel("nvidia-nvshmem-cu13", "3.4.5", X86_64, "")],
                items: &[Item::folder(
                    "nvidia/nvshmem/lib",
                    "*.so.*",
                    "nvidia/nvshmem/lib",
                    "7b892bf2c2bd5acfac0a4d2c6873abab6a734f13443e297d4c41488c3fd6f65e",
                )],
            },
        ],
    },
    inside: "torch",
}];

static LINUX_AARCH64: &[Libtorch] = &[Libtorch {
    set: &Set {
        name: "libtorch",
        about: "libtorch 2.11.0 for CPUs, 64-bit Arm Linux",
        licence: LICENCE,
        folder: "libtorch/2.11.0-cpu",
        parts: &[
            Part {
                sources: &[wheel("torch", "2.11.0", AARCH64, "torch")],
                items: &[
                    Item::folder(
                        "include",
                        "*",
                        "include",
                        "06487766a8eb7d594ee319eb7ea4ef5235e42db13ba1f5d1383c102039540cb4",
                    ),
                    Item::file(
                        "lib/libtorch.so",
                        "lib/libtorch.so",
                        "ab07676deb8234b91ece5b8674ff30b600449acef88d56f3f719abd668771723",
                    ),
                    Item::file(
                        "lib/libtorch_cpu.so",
                        "lib/libtorch_cpu.so",
                        "af8453bb5bfffe061a27b21975467473b8f3e4daa86403c6d1259a7283e3ddb1",
                    ),
                    Item::file(
                        "lib/libc10.so",
                        "lib/libc10.so",
                        "67c32596d62532bebec290f9980120d0d82bd3c365bee656c9331bee93a7b56b",
                    ),
                    Item::file(
                        "lib/libtorch_global_deps.so",
                        "lib/libtorch_global_deps.so",
                        "03301852e6bf75fa1c57009e0822526fada43202a8f2d81976d407e8671f4f49",
                    ),
                    Item::file(
                        "lib/libgomp.so.1",
                        "lib/libgomp.so.1",
                        "dfee810d70d5df631d5cbf4170273938cf0ab5756caa65c7cd264746cdf886ad",
                    ),
                    Item::file(
                        "lib/libarm_compute.so",
                        "lib/libarm_compute.so",
                        "3932444706d9b146fdf52fa81bd6b6c22fd4adbff124734f8afcae4bd676bcd2",
                    ),
                    Item::file(
                        "lib/libarm_compute_graph.so",
                        "lib/libarm_compute_graph.so",
                        "98b45299d32d2027c46f07bf413aa55832b88f6ffa40cb7f50345417cf990aab",
                    ),
                    Item::file(
                        "lib/libgfortran.so.5",
                        "lib/libgfortran.so.5",
                        "85b16e871782bcf3a83a49f8be57b4ff631b31e76af696ce4ad2bb049a78fd8f",
                    ),
                    Item::file(
                        "lib/libnvpl_blas_core.so.0",
                        "lib/libnvpl_blas_core.so.0",
                        "5d74d2a7d48ace2b563405d42695053f8dd058a92db19a5e54ecdeab21a3f6d5",
                    ),
                    Item::file(
                        "lib/libnvpl_blas_lp64_gomp.so.0",
                        "lib/libnvpl_blas_lp64_gomp.so.0",
                        "4ba3cde968a086163fcfc923c0fabcfb43be2cfbea7662399889b3cf086f4077",
                    ),
                    Item::file(
                        "lib/libnvpl_lapack_core.so.0",
                        "lib/libnvpl_lapack_core.so.0",
                        "10ef87919b461fe818a9bfabf149526150cf463d938ad1aa0863311ea4a10c15",
                    ),
                    Item::file(
                        "lib/libnvpl_lapack_lp64_gomp.so.0",
                        "lib/libnvpl_lapack_lp64_gomp.so.0",
                        "0e02dc39b705e466bb887d6967140ff4c02595f0e10b1865adb012fc232352de",
                    ),
                    Item::Text { to: "build-version", text: "2.11.0" },
                ],
            },
            Part {
                sources: &[wheel("nvidia-cuda-runtime", "13.0.96", AARCH64, "nvidia/cu13/lib")],
                items: &[Item::file(
                    "libcudart.so.13",
                    "lib/libcudart.so.13",
                    "7bdba2b5b08cbdc85203c41cc94598adedb1bcfea7cb574ca693ac73599e4e63",
                )],
            },
            Part {
                sources: &[wheel("nvidia-cuda-cupti", "13.0.85", AARCH64, "nvidia/cu13/lib")],
                items: &[Item::file(
                    "libcupti.so.13",
                    "lib/libcupti.so.13",
                    "a55e03ccab21830f5b9d1ca7a02ecd59c557e0d54c769a181ad1140a3cff8ac1",
                )],
            },
        ],
    },
    inside: "",
}];

static MACOS_AARCH64: &[Libtorch] = &[
    Libtorch {
        set: &Set {
            name: "libtorch",
            about: "libtorch 2.11.0, macOS on Apple silicon",
            licence: LICENCE,
            folder: "libtorch/2.11.0-cpu",
            parts: &[Part {
                sources: &[wheel("torch", "2.11.0", MACOS, "torch")],
                items: &[
                    Item::folder(
                        "include",
                        "*",
                        "include",
                        "2d19e081d5a39d104d3b889997286f55984b8e51a43a82542a6d5ec2cd42e030",
                    ),
                    Item::file(
                        "lib/libtorch.dylib",
                        "lib/libtorch.dylib",
                        "2178657b7eeffc0c0a989889ac3e2b2e3d216073b35f3a291ee89bd65c0fb406",
                    ),
                    Item::file(
                        "lib/libtorch_cpu.dylib",
                        "lib/libtorch_cpu.dylib",
                        "1678cd74e33c65ae23a7f638361f87cbd660dba36c0572f358b9c44daa807a8a",
                    ),
                    Item::file(
                        "lib/libc10.dylib",
                        "lib/libc10.dylib",
                        "2762156914809a636d98c336e80e894f0591006a275b3aa857459372776cac11",
                    ),
                    Item::file(
                        "lib/libtorch_global_deps.dylib",
                        "lib/libtorch_global_deps.dylib",
                        "6ff1aedff89150170f225ce821dc9355a9d5f9c80a6cc1bb761c8d209638c2c7",
                    ),
                    Item::file(
                        "lib/libomp.dylib",
                        "lib/libomp.dylib",
                        "a454b03947f69e123305eac313fd861a70f5a13d0e8142ccdb6b6a9957279eb5",
                    ),
                    Item::Text { to: "build-version", text: "2.11.0" },
                ],
            }],
        },
        inside: "",
    },
    Libtorch {
        set: &Set {
            name: "libtorch",
            about: "the official archive of libtorch 2.11.0 for CPUs",
            licence: LICENCE,
            folder: "libtorch/2.11.0-official",
            parts: &[Part {
                sources: &[Source::WebArchive {
                    address: "https://download.pytorch.org/libtorch/cpu/libtorch-macos-arm64-2.11.0.zip",
                    limit: 1 << 30,
                    root: "libtorch",
                }],
                items: OFFICIAL,
            }],
        },
        inside: "",
    },
];
