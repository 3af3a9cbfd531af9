//! Which instructions to use: a value of [`Level`] proves that the CPU has them.

/// Whether the CPU has a feature: asked of it where there is an operating system, else known
/// since the program was compiled.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! has {
    ($feature:tt) => {{
        #[cfg(all(feature = "std", target_arch = "x86_64"))]
        let has = std::is_x86_feature_detected!($feature);
        #[cfg(all(feature = "std", target_arch = "aarch64"))]
        let has = std::arch::is_aarch64_feature_detected!($feature);
        #[cfg(not(feature = "std"))]
        let has = cfg!(target_feature = $feature);
        has
    }};
}

/// Which instructions the kernels use. All levels give the same bits. A level that this CPU
/// lacks can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Level(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    #[cfg(smidgen_scalar)]
    Scalar,
    #[cfg(feature = "wide")]
    Wide,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "aarch64")]
    Neon,
    #[cfg(target_arch = "aarch64")]
    NeonDot,
    #[cfg(smidgen_dsp)]
    CortexM,
}

#[cfg(feature = "defmt")]
impl defmt::Format for Level {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=str}", self.name());
    }
}

/// Every level of this architecture, the definition first, the fastest last.
const ALL: &[Level] = &[
    #[cfg(smidgen_scalar)]
    Level(Kind::Scalar),
    #[cfg(feature = "wide")]
    Level(Kind::Wide),
    #[cfg(target_arch = "x86_64")]
    Level(Kind::Avx2),
    #[cfg(target_arch = "x86_64")]
    Level(Kind::Avx512),
    #[cfg(target_arch = "aarch64")]
    Level(Kind::Neon),
    #[cfg(target_arch = "aarch64")]
    Level(Kind::NeonDot),
    #[cfg(smidgen_dsp)]
    Level(Kind::CortexM),
];

/// The level that the program was compiled to take, whatever the CPU has: `--cfg smidgen_level="avx2"`
/// and the like in RUSTFLAGS.
#[cfg(smidgen_scalar)]
const FORCED: Option<&str> = {
    if cfg!(smidgen_level = "scalar") {
        Some("scalar")
    } else if cfg!(smidgen_level = "wide") {
        Some("wide")
    } else if cfg!(smidgen_level = "avx2") {
        Some("avx2")
    } else if cfg!(smidgen_level = "avx512") {
        Some("avx512")
    } else if cfg!(smidgen_level = "neon") {
        Some("neon")
    } else if cfg!(smidgen_level = "neon-dot") {
        Some("neon-dot")
    } else {
        None
    }
};

impl Level {
    /// Plain code: the definition of the arithmetic. On a Cortex-M with DSP instructions only feature
    /// `scalar` compiles it.
    #[cfg(smidgen_scalar)]
    pub const SCALAR: Self = Self(Kind::Scalar);

    /// The fastest level of the CPU that this runs on. Without an operating system's help
    /// (feature `std`) it is the one that the program was compiled for. With
    /// `--cfg smidgen_level="NAME"` in RUSTFLAGS it is that one, or the definition if the CPU lacks it.
    pub fn detect() -> Self {
        #[cfg(smidgen_scalar)]
        let level = match FORCED {
            Some(name) => Self::from_name(name).unwrap_or(Self::SCALAR),
            None => Self::available().last().unwrap_or(Self::SCALAR),
        };
        #[cfg(not(smidgen_scalar))]
        let level = Self(Kind::CortexM);
        level
    }

    /// Every level that this CPU has, the definition first, the fastest last.
    pub fn available() -> impl Iterator<Item = Self> {
        ALL.iter().copied().filter(|level| level.is_available())
    }

    /// The level of this name, if this CPU has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::available().find(|level| level.name() == name)
    }

    /// The names of every level of this architecture, whether this CPU has them or not.
    pub fn names() -> impl Iterator<Item = &'static str> {
        ALL.iter().map(|level| level.name())
    }

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self.0 {
            #[cfg(smidgen_scalar)]
            Kind::Scalar => "scalar",
            #[cfg(feature = "wide")]
            Kind::Wide => "wide",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => "neon",
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => "neon-dot",
            #[cfg(smidgen_dsp)]
            Kind::CortexM => "cortex-m",
        }
    }

    pub(super) const fn kind(self) -> Kind {
        self.0
    }

    fn is_available(self) -> bool {
        match self.0 {
            #[cfg(smidgen_scalar)]
            Kind::Scalar => true,
            #[cfg(feature = "wide")]
            Kind::Wide => true,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => has!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => {
                has!("avx512f")
                    && has!("avx512bw")
                    && has!("avx512vl")
                    && has!("avx512dq")
                    && has!("avx512vnni")
            }
            // Part of every 64-bit Arm that runs Rust's targets.
            #[cfg(target_arch = "aarch64")]
            Kind::Neon => cfg!(target_feature = "neon"),
            #[cfg(target_arch = "aarch64")]
            Kind::NeonDot => has!("dotprod"),
            // Known since the program was compiled.
            #[cfg(smidgen_dsp)]
            Kind::CortexM => true,
        }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::detect()
    }
}
