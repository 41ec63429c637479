"""What every room stands on: params, artefacts, errors, processes, statistics."""
