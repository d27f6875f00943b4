//! How certain a figure is.

/// A mean, and where the true one is with 95% confidence.
pub(crate) struct Interval {
    pub(crate) mean: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// Quantiles of Student's t distribution at 97.5%, for 1, 2, ... degrees of freedom.
const T_975: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

/// Of ratios: the mean of their logarithms, so that a half and a double even out. The interval is
/// that of a t test of the pairs; with fewer than two there is none.
pub(crate) fn geometric_mean(ratios: &[f64]) -> Interval {
    let count = ratios.len() as f64;
    let logarithms: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logarithms.iter().sum::<f64>() / count;
    let squares: f64 = logarithms.iter().map(|value| (value - mean).powi(2)).sum();
    let freedom = ratios.len().saturating_sub(1);
    let error = (squares / freedom as f64 / count).sqrt();
    // Beyond the table it hardly changes any more, and gets no larger.
    let t = freedom.checked_sub(1).map_or(f64::NAN, |index| T_975[index.min(T_975.len() - 1)]);
    let around = |deviation: f64| (mean + deviation).exp();
    Interval { mean: mean.exp(), low: around(-t * error), high: around(t * error) }
}
