"""A second model beside the one that alarms: scored on the same hops, compared, and swapped in without a gap."""
