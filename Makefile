# Thin on purpose: tools/task.py does the work, so that people without make can run the same.
PYTHON ?= python3

.PHONY: demo test check pin
demo test check pin:
	@$(PYTHON) tools/task.py $@
