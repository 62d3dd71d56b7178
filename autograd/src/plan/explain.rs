//! What a plan does, in words.
