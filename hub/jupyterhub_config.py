"""What a JupyterHub has to know of this project, whichever spawner starts its servers.

In the hub's own configuration::

    load_subconfig("hub/jupyterhub_config.py")
"""

c = get_config()  # noqa: F821

c.Spawner.environment.update(
    {
        # one folder for all readers; it may be read-only
        "PURE_DATA": "/srv/pure-data",
        # As many as cpu_limit: in a container PyTorch sees all cores of the
        # machine, and would start a thread for each.
        "OMP_NUM_THREADS": "2",
    }
)
# Spawners of containers keep to both; those of plain processes do not.
c.Spawner.cpu_limit = 2
c.Spawner.mem_limit = "6G"
