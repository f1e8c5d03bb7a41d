//! pipeline-testkit
