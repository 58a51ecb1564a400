"""The data sets, one a file; :data:`pure.data.catalogue.CATALOGUE` names them."""
