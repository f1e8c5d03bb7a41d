//! pipeline-simulator
