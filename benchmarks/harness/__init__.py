"""What every benchmark is made of, written once.

`cli` the arguments and the end of a benchmark; `rows` the file of results, from which a stopped one
goes on; `digest` which code a row depends on; `hardware` what it was measured on; `report` figures
against their targets, and tables; `trainings` rows that are whole trainings; `ranks` processes
under a watchdog.
"""
