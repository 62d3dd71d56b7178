//! Pages to read: how it works, how to add an operation, how to debug a wrong gradient, what makes a
//! program fast, what the compiler says, names in other libraries, and tables of all operations and of the conventions at points where functions
//! are not smooth.

/// A short book: from a sigmoid to the plan that runs.
///
/// 1. [A graph](how_it_works::page_1_graph): operations in the order in which they were written.
/// 2. [Rules](how_it_works::page_2_rules): vector-Jacobian products instead of Jacobians.
/// 3. [The reverse pass](how_it_works::page_3_reverse): one loop over the list, backwards.
/// 4. [Derivatives of derivatives](how_it_works::page_4_higher): and forward mode.
/// 5. [The plan](how_it_works::page_5_plan): lowered, fused, scheduled, laid out, cached.
///
/// For those who want to change the crate, [the engine](the_engine) explains the planner and the
/// executor.
pub mod how_it_works {
    /// # 1. A graph
    #[doc = include_str!("../docs/book/1_graph.md")]
    pub mod page_1_graph {}

    /// # 2. Rules
    #[doc = include_str!("../docs/book/2_rules.md")]
    pub mod page_2_rules {}

    /// # 3. The reverse pass
    #[doc = include_str!("../docs/book/3_reverse.md")]
    ///
    /// The whole graph as `Graph::to_svg` draws it:
    ///
    #[doc = include_str!("../docs/pictures/two_inputs.svg")]
    pub mod page_3_reverse {}

    /// # 4. Derivatives of derivatives
    #[doc = include_str!("../docs/book/4_higher.md")]
    pub mod page_4_higher {}

    /// # 5. The plan
    #[doc = include_str!("../docs/book/5_plan.md")]
    pub mod page_5_plan {}
}

/// # The engine: from a graph to values
#[doc = include_str!("../docs/book/the_engine.md")]
pub mod the_engine {}

/// # Write your own operation
#[doc = include_str!("../docs/book/own_op.md")]
pub mod write_your_own_op {}

/// # My gradient is wrong
#[doc = include_str!("../docs/book/wrong_gradient.md")]
pub mod my_gradient_is_wrong {}

/// # Performance guide
#[doc = include_str!("../docs/book/performance.md")]
pub mod performance {}

/// # What the compiler says
#[doc = include_str!("../docs/book/compiler.md")]
pub mod what_the_compiler_says {}

/// # Coming from PyTorch or JAX
#[doc = include_str!("../docs/book/coming_from.md")]
pub mod coming_from_pytorch_or_jax {}

#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

#[doc = include_str!("../docs/conventions.md")]
pub mod conventions {}
