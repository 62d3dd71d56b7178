//! [`Float`]: the two float types, and the numbers in the algorithms of this folder for each of
//! them. A polynomial minimizes the largest relative error of the function it is a part of; the
//! coefficients come from the lowest power on.

use super::{Lanes, trigonometric::reduce_large};
use std::fmt::Debug;

/// The float types, `f32` and `f64`.
///
/// A number in two parts is the rounded number and the rounded rest, if nothing else is said.
#[doc(hidden)]
#[allow(missing_docs)]
pub trait Float:
    Lanes<Elem = Self, Mask = bool> + Default + PartialOrd + Debug + Send + Sync + 'static
{
    fn nearest(v: f64) -> Self;
    /// The remainder of a division, which is always exact.
    fn remainder(self, divisor: Self) -> Self;
    /// [`reduce_large`], with its first part offset by [`ROUND_TO_INT`](Float::ROUND_TO_INT).
    fn reduce_large(self) -> [Self; 3];

    /// Whether a few more operations are spent on results within one ulp, also where f32 is content
    /// with two.
    const CAREFUL: bool;
    /// The number of the bit of the sign.
    const SIGN_BIT: u32;
    /// The smallest normal number; times [`NORMALIZE`](Float::NORMALIZE), which is 2 to the
    /// [`NORMALIZE_BITS`](Float::NORMALIZE_BITS), every other one is normal, too.
    const MIN_NORMAL: Self;
    const NORMALIZE: Self;
    const NORMALIZE_BITS: Self;
    /// From here on all numbers are integers, and there are gaps between them.
    const ALL_INTEGERS: Self;
    /// Adding this rounds a value of moderate size to an integer, which is then in the lowest bits
    /// of the sum.
    const ROUND_TO_INT: Self;
    /// So small that `1 + x` is 1.
    const TINY: Self;

    /// `ln 2` in two parts. The first has so few bits that its product with an exponent is exact.
    const LN_2: [Self; 2];
    /// `eˣ` is 0 up to the first, and infinite from the second on.
    const EXP_RANGE: [Self; 2];
    /// `e^(x) - 1` is -1 up to here.
    const EXPM1_MIN: Self;
    /// From here on `1 - tanh x` is 0.
    const TANH_MAX: Self;
    /// `(eʳ - 1 - r)/r²`, for `|r| ≤ ½ ln 2`.
    const EXP: &'static [Self];
    /// The same, for an error relative to `eʳ - 1`.
    const EXPM1: &'static [Self];
    /// `(1 - e^(-2h) - 2h)/h²`, for `|h| ≤ ¼ ln 2`.
    const TANH: &'static [Self];
    /// `(sinh x - x)/x³` as a polynomial in `x²`, for `|x| ≤ 1`.
    const SINH: &'static [Self];

    /// `(2·artanh s - 2s)/s³` as a polynomial in `s²`, for `|s| ≤ (√2 - 1)/(√2 + 1)`.
    const LN: &'static [Self];
    /// `⅔` in two parts.
    const TWO_THIRDS: [Self; 2];
    /// `(2·artanh s - 2s - ⅔s³)/s⁵`, as [`LN`](Float::LN), for twice as many digits.
    const LN_PAIR: &'static [Self];

    /// `π/2` in three parts.
    const HALF_PI: [Self; 3];
    /// Up to this `x`, three parts of `π/2` give `x - n·π/2` enough digits.
    const MAX_SMALL_ANGLE: Self;
    /// `(sin r - r)/r³` as a polynomial in `r²`, for `|r| ≤ π/4`.
    const SIN: &'static [Self];
    /// `(cos r - 1 + r²/2)/r⁴` as a polynomial in `r²`, for `|r| ≤ π/4`.
    const COS: &'static [Self];
    /// `(arctan t - t)/t³` as a polynomial in `t²`, for `|t| ≤ 1`.
    const ATAN: &'static [Self];
    /// `(arcsin s - s)/s³` as a polynomial in `s²`, for `|s| ≤ ½`.
    const ASIN: &'static [Self];

    /// `(erf x - x)/x` as a polynomial in `x²`, for `|x| ≤ 1`.
    const ERF: &'static [Self];
    /// `(-ln(1 - erf x) - x)/x`, from 1 to [`ERF_MAX`](Float::ERF_MAX).
    const ERF_FAR: &'static [Self];
    /// From here on `erf x` is 1.
    const ERF_MAX: Self;
    /// `f(x) = (1 + 2x)·e^(x²)·erfc x` is smooth and close to 1 from 0 to infinity. This is
    /// `(f(x) - c)/t` with `t = (x - k)/(x + k)`, from ½ to [`ERFC_MAX`](Float::ERFC_MAX).
    const ERFC: &'static [Self];
    /// `c = f(k)` in two parts.
    const ERFC_CENTER: [Self; 2];
    /// `k`
    const ERFC_SCALE: Self;
    /// From here on `erfc x` is 0, and from `-√2` times this on the gelu is.
    const ERFC_MAX: Self;
    /// `√½` in two parts.
    const ROOT_OF_HALF: [Self; 2];
    /// As [`ERFC_MAX`](Float::ERFC_MAX), for the gelu: its square is finite.
    const GELU_MAX: Self;

    /// Squares of numbers between these have a rounding error that is itself a number.
    const SQUARE_RANGE: [Self; 2];
    /// Factors for numbers below and above, with their reciprocals.
    const SQUARE_SCALES: [[Self; 2]; 2];
}

/// A power of two.
const fn f32_power(n: i32) -> f32 {
    f32::from_bits(((n + 127) as u32) << 23)
}

/// A power of two.
const fn f64_power(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

impl Float for f32 {
    #[inline(always)]
    fn nearest(v: f64) -> f32 {
        v as f32
    }
    fn remainder(self, divisor: f32) -> f32 {
        self % divisor
    }
    fn reduce_large(self) -> [f32; 3] {
        let (n, [r, _]) = reduce_large(self.into());
        let high = r as f32;
        [
            Self::ROUND_TO_INT + n as f32,
            high,
            (r - f64::from(high)) as f32,
        ]
    }

    const CAREFUL: bool = false;
    const SIGN_BIT: u32 = 31;
    const MIN_NORMAL: f32 = f32::MIN_POSITIVE;
    const NORMALIZE: f32 = f32_power(23);
    const NORMALIZE_BITS: f32 = 23.0;
    const ALL_INTEGERS: f32 = f32_power(24);
    const ROUND_TO_INT: f32 = 1.5 * f32_power(23);
    const TINY: f32 = 1e-8;

    const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    const EXP_RANGE: [f32; 2] = [-104.0, 89.0];
    const EXPM1_MIN: f32 = -20.0;
    const TANH_MAX: f32 = 53.0;
    const EXP: &'static [f32] = &[
        0.499_999_94,
        0.166_665_15,
        0.041_668_23,
        0.008_369_384,
        0.001_382_544_5,
    ];
    const EXPM1: &'static [f32] = &[
        0.5,
        0.166_666_64,
        0.041_666_467,
        0.008_333_901,
        0.001_393_490_8,
        1.956_752_4e-4,
    ];
    const TANH: &'static [f32] = &[
        -1.999_999_9,
        1.333_323_1,
        -0.666_679_86,
        0.267_748_8,
        -0.088_745_97,
    ];
    const SINH: &'static [f32] = &[1.6666667e-01, 8.3333105e-03, 1.9842894e-04, 2.7822446e-06];

    const LN: &'static [f32] = &[6.6666776e-01, 3.9977586e-01, 2.98707e-01];
    const TWO_THIRDS: [f32; 2] = [6.666667e-01, -1.9868216e-08];
    const LN_PAIR: &'static [f32] = &[4.0000153e-01, 2.8547087e-01, 2.3419788e-01];

    const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_122_5e-15];
    const MAX_SMALL_ANGLE: f32 = 30_000.0;
    const SIN: &'static [f32] = &[-0.166_666_67, 0.008_333_372, -1.984_983_1e-4, 2.798_967e-6];
    const COS: &'static [f32] = &[0.041_666_646, -0.001_388_729_9, 2.443_028_5e-5];
    const ATAN: &'static [f32] = &[
        -3.33333e-01,
        1.999853e-01,
        -1.4264014e-01,
        1.09508604e-01,
        -8.399203e-02,
        5.7878725e-02,
        -3.1093335e-02,
        1.0866138e-02,
        -1.7821097e-03,
    ];
    const ASIN: &'static [f32] = &[
        1.6666752e-01,
        7.495315e-02,
        4.54683e-02,
        2.418921e-02,
        4.2150874e-02,
    ];

    const ERF: &'static [f32] = &[
        0.128_379_17,
        -0.376_126_26,
        0.112_835_83,
        -0.026_853_692,
        0.005_188_074,
        -8.007_878e-4,
        7.846_108e-5,
    ];
    const ERF_FAR: &'static [f32] = &[
        0.128_688_63,
        0.634_991_65,
        0.106_495_86,
        -0.023_981_13,
        0.003_744_310_7,
        -3.474_678e-4,
        1.366_048_9e-5,
    ];
    const ERF_MAX: f32 = 4.0;
    const ERFC: &'static [f32] = &[
        -1.3562103e-01,
        -4.7562283e-02,
        1.2964183e-01,
        -1.192744e-01,
        6.834414e-02,
        -2.3758562e-02,
        2.376077e-03,
        1.8251034e-03,
        -5.217436e-04,
    ];
    const ERFC_CENTER: [f32; 2] = [1.253008e+00, 5.0144944e-08];
    const ERFC_SCALE: f32 = 3.0;
    const ERFC_MAX: f32 = 11.0;
    const ROOT_OF_HALF: [f32; 2] = [std::f32::consts::FRAC_1_SQRT_2, 1.2101617e-08];
    const GELU_MAX: f32 = 15.0;

    const SQUARE_RANGE: [f32; 2] = [f32_power(-38), f32_power(60)];
    const SQUARE_SCALES: [[f32; 2]; 2] = [
        [f32_power(100), f32_power(-100)],
        [f32_power(-80), f32_power(80)],
    ];
}

impl Float for f64 {
    #[inline(always)]
    fn nearest(v: f64) -> f64 {
        v
    }
    fn remainder(self, divisor: f64) -> f64 {
        self % divisor
    }
    fn reduce_large(self) -> [f64; 3] {
        let (n, [r, low]) = reduce_large(self);
        [Self::ROUND_TO_INT + f64::from(n), r, low]
    }

    const CAREFUL: bool = true;
    const SIGN_BIT: u32 = 63;
    const MIN_NORMAL: f64 = f64::MIN_POSITIVE;
    const NORMALIZE: f64 = f64_power(52);
    const NORMALIZE_BITS: f64 = 52.0;
    const ALL_INTEGERS: f64 = f64_power(53);
    const ROUND_TO_INT: f64 = 1.5 * f64_power(52);
    const TINY: f64 = 1e-17;

    const LN_2: [f64; 2] = [0.6931471805598903, 5.497923018708371e-14];
    const EXP_RANGE: [f64; 2] = [-746.0, 710.0];
    const EXPM1_MIN: f64 = -40.0;
    const TANH_MAX: f64 = 375.0;
    const EXP: &'static [f64] = &[
        0.5000000000000011,
        0.1666666666666644,
        0.0416666666665261,
        0.008333333333472564,
        0.001388888894466122,
        0.00019841269559450156,
        2.4801492108801332e-05,
        2.7557536719473552e-06,
        2.763056906031582e-07,
        2.5016024195251333e-08,
    ];
    const EXPM1: &'static [f64] = &[
        0.5,
        0.16666666666666677,
        0.041666666666657096,
        0.008333333333317573,
        0.0013888888895185547,
        0.00019841269904598865,
        2.48015735755824e-05,
        2.755721851477148e-06,
        2.7569513806964125e-07,
        2.512014180082574e-08,
        1.707835567205763e-09,
    ];
    const TANH: &'static [f64] = &[
        -2.0,
        1.3333333333333341,
        -0.6666666666666945,
        0.2666666666663024,
        -0.08888888888176172,
        0.025396825450627294,
        -0.006349206954078296,
        0.0014109311519799076,
        -0.0002821658687418256,
        5.1418572043195014e-05,
        -8.816866436898627e-06,
    ];
    const SINH: &'static [f64] = &[
        0.16666666666666669,
        0.008333333333332912,
        0.00019841269841593408,
        2.7557319106760548e-06,
        2.5052130997170798e-08,
        1.605665939397542e-10,
        7.776589275982592e-13,
    ];

    const LN: &'static [f64] = &[
        0.6666666666666734,
        0.39999999999416963,
        0.28571428741921867,
        0.2222219861781051,
        0.1818356213697779,
        0.1531410381162971,
        0.14795440173904137,
    ];
    const TWO_THIRDS: [f64; 2] = [0.6666666666666666, 3.700743415417188e-17];
    const LN_PAIR: &'static [f64] = &[
        0.3999999999999998,
        0.28571428571443835,
        0.22222222217791782,
        0.18181818843696915,
        0.15384558450332253,
        0.13336263633209847,
        0.11675798412110004,
        0.11981607232923407,
    ];

    const HALF_PI: [f64; 3] = [
        std::f64::consts::FRAC_PI_2,
        6.123233995736766e-17,
        -1.4973849048591815e-33,
    ];
    const MAX_SMALL_ANGLE: f64 = 1e9;
    const SIN: &'static [f64] = &[
        -0.1666666666666663,
        0.00833333333332184,
        -0.00019841269829358823,
        2.755731353857225e-06,
        -2.5050734368595395e-08,
        1.5895429523319212e-10,
    ];
    const COS: &'static [f64] = &[
        0.041666666666666595,
        -0.001388888888887334,
        2.4801587288999772e-05,
        -2.7557314216140355e-07,
        2.087570524553694e-09,
        -1.13587400983582e-11,
    ];
    const ATAN: &'static [f64] = &[
        -0.3333333333333307,
        0.19999999999951756,
        -0.14285714282584047,
        0.11111111007086336,
        -0.09090907001110077,
        0.07692279788679712,
        -0.0666640344432769,
        0.058805231272536944,
        -0.05253493546993966,
        0.04722224511935283,
        -0.042188917784141855,
        0.03663546710867146,
        -0.02989275046846622,
        0.021970156675940666,
        -0.013885763391501873,
        0.0071853706254809205,
        -0.002878858470442934,
        0.0008290679388440476,
        -0.00015164848480324824,
        1.3171382288045615e-05,
    ];
    const ASIN: &'static [f64] = &[
        0.16666666666665408,
        0.07500000000337113,
        0.04464285682825286,
        0.03038195913991893,
        0.022371757982381384,
        0.017359705759311263,
        0.013885225852434761,
        0.012169273684200583,
        0.006527710022956766,
        0.01952898664613899,
        -0.01622538355686958,
        0.031913047468518536,
    ];

    const ERF: &'static [f64] = &[
        0.12837916709551256,
        -0.37612638903183343,
        0.11283791670936955,
        -0.02686617064196076,
        0.005223977596758294,
        -0.0008548325486543817,
        0.00012055280557379819,
        -1.4924467091773066e-05,
        1.6444171969432593e-06,
        -1.618418119976992e-07,
        1.3617630805009194e-08,
        -7.609747435773952e-10,
    ];
    const ERF_FAR: &'static [f64] = &[
        0.12837911084167392,
        0.6366202528263293,
        0.10277082647046422,
        -0.019124963130726858,
        -0.0002120391393593111,
        0.0016926114118605892,
        -0.0005746620801014916,
        -9.723762807224316e-07,
        9.548520545414275e-05,
        -5.603798591083121e-05,
        2.035120717243453e-05,
        -5.38521210797918e-06,
        1.0781240643102524e-06,
        -1.630234813697062e-07,
        1.8130683255031903e-08,
        -1.4024133347821934e-09,
        6.74468015802725e-11,
        -1.518819295786101e-12,
    ];
    const ERF_MAX: f64 = 6.0;
    const ERFC: &'static [f64] = &[
        -0.1396211168405625,
        0.015379652102618777,
        0.06809705425469156,
        -0.10103906603623826,
        0.09373283499840045,
        -0.06633036581397402,
        0.03716751553636998,
        -0.01619773403389804,
        0.005031969991793559,
        -0.0007577734782928574,
        -0.00019925680043019048,
        0.00015062261655003287,
        -2.439868902541041e-05,
        -1.122503869148342e-05,
        5.708008112274898e-06,
        3.0002318088129236e-07,
        -8.217164606570069e-07,
        6.663484535317838e-08,
        1.0504948023776171e-07,
        -1.2085752484085509e-08,
        -1.0273203588304441e-08,
    ];
    const ERFC_CENTER: [f64; 2] = [1.2329951186255526, -4.3202196749853143e-17];
    const ERFC_SCALE: f64 = 4.0;
    const ERFC_MAX: f64 = 28.0;
    const ROOT_OF_HALF: [f64; 2] = [std::f64::consts::FRAC_1_SQRT_2, -4.833646656726457e-17];
    const GELU_MAX: f64 = 39.0;

    const SQUARE_RANGE: [f64; 2] = [f64_power(-450), f64_power(500)];
    const SQUARE_SCALES: [[f64; 2]; 2] = [
        [f64_power(600), f64_power(-600)],
        [f64_power(-600), f64_power(600)],
    ];
}
