//! The private listener: health and metrics. (Filled in by its own change.)
