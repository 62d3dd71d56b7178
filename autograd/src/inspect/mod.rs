//! Looking at programs and plans.

pub(crate) mod kept;
pub(crate) mod plan;
pub(crate) mod profile;
mod text;
