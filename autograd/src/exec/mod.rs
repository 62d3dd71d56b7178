//! Execution: from a plan to values.
//!
//! | file | what it does |
//! |---|---|
//! | `run` | one run of a plan, from beginning to end |
//! | `bind` | where values are in a run |
//! | `commit` | updates of parameters, all or none |
//! | `stage` | the kernels of a stage, dealt to threads in parts |
//! | `team` | threads that share work |
//! | `opaque` | ops by their own `eval`, in parts |
//! | `memory` | pointers to values, arenas, scratch |
//! | `product` | matrix products in parts |
//! | `kernels` | loops over elements, compiled for several instruction sets |
//! | `reference` | the slow definition that tests compare with |

mod bind;
mod commit;
pub(crate) mod kernels;
pub(crate) mod memory;
mod opaque;
mod product;
pub(crate) mod reference;
pub(crate) mod run;
mod stage;
mod team;
