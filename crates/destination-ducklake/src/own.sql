-- Data files that this destination has written and that are not replaced: of visible rows, and of a
-- next generation, which the catalogue does not name yet.
CREATE TABLE IF NOT EXISTS _pipeline_files (
    file INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, next INTEGER NOT NULL, path TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0, described TEXT, data_file_id INTEGER);
CREATE INDEX IF NOT EXISTS _pipeline_files_by_name ON _pipeline_files (name, next);
-- Rows of these files that were deleted or replaced.
CREATE TABLE IF NOT EXISTS _pipeline_deleted (
    file INTEGER NOT NULL, row INTEGER NOT NULL, PRIMARY KEY (file, row)) WITHOUT ROWID;
-- The name that a connector gives a column, by the catalogue's.
CREATE TABLE IF NOT EXISTS _pipeline_columns (
    table_id INTEGER NOT NULL, column_id INTEGER NOT NULL, field TEXT NOT NULL, PRIMARY KEY (table_id, column_id));
-- The key of a table's rows, of the visible generation and of the next one; an empty list: they have
-- none.
CREATE TABLE IF NOT EXISTS _pipeline_keyed (
    name TEXT NOT NULL, next INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (name, next));
-- Columns by which rows of a table are deleted together: each is indexed beside the keys.
CREATE TABLE IF NOT EXISTS _pipeline_parts (
    name TEXT NOT NULL, part INTEGER NOT NULL, fields TEXT NOT NULL, PRIMARY KEY (name, part));
-- Tombstones of next generations, for rows that are carried into them.
CREATE TABLE IF NOT EXISTS _pipeline_gone (
    name TEXT NOT NULL, fields TEXT NOT NULL, value BLOB NOT NULL, sequence INTEGER NOT NULL,
    PRIMARY KEY (name, fields, value)) WITHOUT ROWID;
-- Processes that have written files: what the catalogue does not name of theirs is left over.
CREATE TABLE IF NOT EXISTS _pipeline_writers (writer TEXT PRIMARY KEY, since TEXT NOT NULL);
-- Begun and not finished: the catalogue is to be rewritten, so that nothing of purged rows is left in it.
CREATE TABLE IF NOT EXISTS _pipeline_unfinished (what TEXT PRIMARY KEY);
