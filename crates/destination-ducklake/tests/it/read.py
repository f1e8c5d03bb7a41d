"""Runs statements on a lake with DuckDB, without a network, and prints what they return as JSON.

Takes the catalogue and the statements as arguments. Exits with 77 where DuckDB or its extensions are not installed.
"""
import glob
import importlib
import json
import os
import sys

try:
    import duckdb

    extensions = []
    for name in ["sqlite_scanner", "ducklake"]:
        module = importlib.import_module("duckdb_extension_" + name)
        folder = os.path.join(os.path.dirname(module.__file__), "extensions", "*")
        extensions += glob.glob(os.path.join(folder, name + ".duckdb_extension"))
except ImportError as error:
    print(error)
    sys.exit(77)

catalog, *statements = sys.argv[1:]
connection = duckdb.connect(config={"allow_unsigned_extensions": "true"})
for extension in extensions:
    connection.execute(f"LOAD '{extension}'")
connection.execute("SET TimeZone = 'UTC'")
connection.execute(f"ATTACH 'ducklake:sqlite:{catalog}' AS lake")
connection.execute("USE lake")
results = []
for statement in statements:
    rows = connection.execute(statement).fetchall()
    results.append([[None if value is None else str(value) for value in row] for row in rows])
print(json.dumps(results))
