"""Runs the queries of towns as tasks of a Dask cluster, which others may own and use meanwhile."""

from collections.abc import Generator, Sequence
from concurrent.futures import CancelledError
from typing import Any
from uuid import uuid4

from distributed import Client, as_completed

from commonwatt.model.exceptions import CommonwattError, ConfigError, StoreError, text_of
from utility.towns.analysis.store.closed import Task, result_of

CONNECT_S = 10  # seconds until a scheduler must answer
RETRIES = 2  # further tries of a task that can't read its files, such as while a file server is away


def on_cluster(address: str, tasks: Sequence[Task]) -> Generator[tuple[Task, Any], None, None]:
    """Yield each task with its result, once, as they end; when the caller stops, the others are cancelled.

    The scheduler gives the task of a worker that ends to another one.
    """
    try:
        client = Client(address, timeout=CONNECT_S)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{address}: no Dask scheduler answers ({text_of(error)}); start one with: dask scheduler"
        ) from error
    with client:
        run = uuid4().hex
        futures = {
            client.submit(result_of, task, key=f"analyse-{run}-{task.town}", retries=RETRIES): task for task in tasks
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        except CancelledError as error:
            raise CommonwattError("the cluster lost the tasks; give the command again") from error
        except StoreError:
            raise
        except Exception as error:
            raise CommonwattError(
                f"the cluster can't run the tasks: {error}. Each worker needs this release with the extra `analysis`, "
                "the towns' files at the same paths, and memory of 2 GB for each of its threads"
            ) from error
        finally:
            client.cancel(list(futures))
